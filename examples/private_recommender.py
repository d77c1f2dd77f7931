"""A private recommender for a log of one's own: train, look at the promise, recommend, hand on, verify.

    python examples/private_recommender.py

The log is made up here; put the file of your own in its place. Every user has a guarantee of epsilon 4: the model would
be almost as likely without any one of them.
"""

import csv
import random
import sys
import tempfile
from pathlib import Path

import fedrec

GENRES = ("comedy", "crime", "drama", "war")


def made_up(folder: Path, users: int = 3000, items: int = 80, seed: int = 0) -> tuple[Path, Path]:
    """Write a log of events and its catalogue; each user has one favourite genre."""
    draw = random.Random(seed)
    log, catalogue = folder / "log.csv", folder / "items.csv"
    with catalogue.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["item_id", "title", "genres"])
        table.writerows([f"film-{item}", f"Film {item}", GENRES[item % len(GENRES)]] for item in range(items))
    with log.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["user_id", "item_id", "timestamp"])
        for user in range(users):
            liked = [item for item in range(items) if item % len(GENRES) == user % len(GENRES)]
            seen = draw.sample(liked, 9) + draw.sample(range(items), 4)
            draw.shuffle(seen)
            table.writerows([f"user-{user}", f"film-{item}", step] for step, item in enumerate(dict.fromkeys(seen)))
    return log, catalogue


def main(folder: Path) -> None:
    """Train in `folder` and print what came of it."""
    log, catalogue = made_up(folder)
    data = fedrec.read_log(log, catalogue=catalogue)
    run = fedrec.simulate("kernel-rank", fedrec.split(data, "leave-one-out"), epsilon=4, delta=1e-5, progress=False)
    print(f"epsilon {run.epsilon:.3f} at delta {run.delta:g}; NDCG@10 {run.metrics['ndcg@10']:.3f}")
    print(f"DP popularity at the same epsilon: {run.baselines['dp-popularity']['ndcg@10']:.3f}")

    print("for user-1:")
    print(run.model.recommend(user="user-1", k=3))
    print("for somebody who is not in the log, with a history that stays on this machine:")
    print(run.model.recommend(history=["film-0", "film-4", "film-8"], k=3))

    saved = run.save(folder / "run")
    verdict = fedrec.verify(saved / "release", trust_run_key=True)  # an auditor gives key=, from the run's owner
    print(f"the record holds: {verdict.holds}")
    print(f"hand on {saved / 'release'}; keep {saved / 'private'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
