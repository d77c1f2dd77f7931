"""`fedrec bench cold`: what has no answer gets none, meaning is worth something, and answers stand for events."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_sim.benchmarks import cold
from fedrec_sim.benchmarks.cold_means import means

from fedrec.cli import run
from fedrec.data import datasets, splits
from fedrec.data.catalogue import Texts
from fedrec.data.datasets import DataConfig
from fedrec.data.long_texts import SUBJECTS, generate
from fedrec.errors import InputError
from fedrec.kernels.public import text_map, words_of

SUBJECT = {word: number for number, line in enumerate(SUBJECTS) for word in line.split()}


def test_no_two_items_of_the_paraphrases_share_a_word_of_their_subject() -> None:
    log = generate("paraphrases", 1, 50, 480, 20)
    assert log.items is not None
    found = [word for text in log.items["description"] for word in set(text.strip(".").replace(",", "").split())]
    own = [word for word in (each.strip(".") for each in found) if word in SUBJECT]
    assert len(own) == len(set(own)) == 960
    assert text_map(Texts("description", tuple(log.items["description"]))) is None
    again = generate("paraphrases", 1, 90, 480, 20)
    assert again.items is not None
    assert again.items.equals(log.items)
    longer = generate("long-texts", 1, 50, 480, 20).items
    assert longer is not None
    assert {text.count(".") for text in longer["description"]} == {5}
    counted = text_map(Texts("description", tuple(longer["description"])))
    assert counted is not None
    assert 0.5 < float((counted.values > 0).sum(1).float().mean()) < 2  # few items share a word of their subject
    with pytest.raises(InputError, match="words for 480 items"):
        generate("paraphrases", 1, 50, 481, 20)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vectors of an oracle that reads the subject of a text."""
    log = generate("paraphrases", 0, 150, 144, 20)
    assert log.items is not None
    folder = tmp_path_factory.mktemp("vectors")
    rows = np.zeros((144, 24), np.float32)
    for row, text in enumerate(log.items["description"]):
        for word in words_of(text):
            if word in SUBJECT:
                rows[row, SUBJECT[word]] = 1.0
    np.save(folder / "paraphrases-oracle-0.npy", rows)
    return folder


def test_new_items(work: Path) -> None:
    bench = cold.Bench(
        data={"name": "paraphrases", "users": 150, "items": 144, "interactions_per_user": 20},
        data_dir=None,
        encoders=("none", "words", "oracle"),
        algorithms=("popularity", "content", "als"),
        epsilons=("none",),
        seeds=(0,),
        share=0.2,
        work=work,
    )
    found = means(list(cold.cold_items(bench, lambda _line: None)), ("encoder", "algorithm"))
    for silent in ("none", "words"):
        assert {found[silent, name]["new hr@10"] for name in bench.algorithms} == {None}
    assert found["oracle", "popularity"]["new hr@10"] == 0.0
    for name in ("content", "als"):
        oracle = found["oracle", name]["new hr@10"]
        assert oracle is not None
        assert oracle > 0.6  # chance is a third


def test_answers_become_the_items_that_the_sdk_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = datasets.load(DataConfig(users=60, items=60), None, 0)
    split = splits.split(dataset, "cold-users", "test", 0)
    model = cold.trained(dataset, split, "popularity", "none", 0)
    asked = cold.answered(model, split.seen, dataset.catalogue, 2)
    assert len(asked) == len(split.device)
    assert not asked.ordered
    scores = model.score(model.fit(split.device.batch(np.array([0]), 0)))[0]
    block = next(block for block in dataset.catalogue.blocks if block.name == "genres")
    member = torch.from_numpy(block.membership)  # type: ignore[union-attr]
    for user in range(5):
        mine = asked.row(user)
        assert len(set(mine)) == len(mine) == 2 * cold.EACH
        label = [scores.masked_fill(~member[:, n], -1).topk(3).indices.tolist() for n in range(member.shape[1])]
        assert mine[:3].tolist() in label


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "quickstart", "--users", "60", "--algorithms", "content", "--seeds", "0"]
    out = tmp_path / "out"
    assert run(["bench", "cold", *options, "--encoders", "words", "--what", "users", "--out", str(out)]) == 0
    assert "no answer" not in capsys.readouterr().out
    document = json.loads((out / "cold.json").read_text())
    assert {result["known"] for result in document["results"]} >= {"0 events", "10 events", "2 labels"}
    assert (out / "cold.svg").is_file()
    assert run(["bench", "cold", *options, "--encoders", "wrds"]) == 2
    assert run(["bench", "cold", *options, "--epsilon", "one"]) == 2
