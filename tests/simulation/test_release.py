"""The released part of a run is `release/` alone: every changed bit is noticed, and epsilon covers all of it."""

import base64
import csv
import hashlib
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fedrec_sim.report import fingerprint

from fedrec.audit.evidence.layout import fixed_private
from fedrec.audit.evidence.received_run import received
from fedrec.audit.log.keys import default_key
from fedrec.audit.verify.verification import verify
from fedrec.cli import run
from fedrec.data import datasets, splits
from fedrec.data.datasets import DataConfig
from fedrec.errors import FedrecError
from tests.simulation.test_simulate import POPULARITY, SMALL, simulate

__all__ = ["simulate"]
FLIPS = 12
"""In each file. 28 of them in all files together once found 10 that went unnoticed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with private looks, ranks and an attack; nobody may change it."""
    folder = tmp_path_factory.mktemp("made") / "run"
    settings = ["algorithm.name=fcf", "algorithm.rounds=2", "algorithm.dim=4", "privacy.evaluation_share=0.2"]
    settings += ["evaluation.keep_ranks=true", "evaluation.every=1"]
    changes = [part for setting in settings for part in ("--set", setting)]
    assert run(["simulate", *SMALL, *changes, "--seed", "5", "--quiet", "--out", str(folder)]) == 0
    assert run(["audit", "attack", str(folder), "--kind", "canary", "--canaries", "100", "--json"]) == 0
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same run, for an attacker to change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def noticed(folder: Path) -> list[str]:
    """Return the faults that an auditor with the right key sees; an unreadable run is a fault, too."""
    try:
        return verify(received(folder), default_key().public).faults
    except FedrecError as error:
        return [str(error)]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flipped(content: bytes, bit: int) -> bytes:
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


# Every file is fixed


def test_the_whole_run_and_its_release_verify(made: Path) -> None:
    assert noticed(made) == []
    assert noticed(made / "release") == []


@pytest.mark.parametrize("part", ["release", "private"])
def test_no_flipped_bit_in_any_file_goes_unnoticed(copied: Path, part: str) -> None:
    rng, missed = random.Random(7), []
    for path in files(copied / part):
        content = path.read_bytes()
        for bit in {rng.randrange(8 * len(content)) for _ in range(FLIPS)}:
            path.write_bytes(flipped(content, bit))
            if not noticed(copied):
                missed.append((path.name, bit))
        path.write_bytes(content)
    assert missed == []
    assert noticed(copied) == []


@pytest.mark.parametrize("part", ["release", "private"])
def test_no_file_can_be_taken_away(copied: Path, part: str) -> None:
    for path in files(copied / part):
        content = path.read_bytes()
        path.unlink()
        assert noticed(copied), path.name
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["release/README.md", "release/privacy/statement.pdf", "release/model/.hidden", "private/notes.txt"]
)
def test_no_file_can_be_added(copied: Path, name: str) -> None:
    (copied / name).write_text("Epsilon is 0.1, trust me.")
    assert any("is not a file of the run" in fault for fault in noticed(copied))


def test_no_link_can_be_added(copied: Path) -> None:
    (copied / "release" / "more").symlink_to(copied / "private")
    assert noticed(copied / "release")


def test_cosignatures_may_come_later_and_trackers_write_what_they_like(copied: Path, tmp_path: Path) -> None:
    assert run(["audit", "keys", "new", str(tmp_path / "witness.pem")]) == 0
    asked = ["--key", default_key().public.text, "--witness-key", str(tmp_path / "witness.pem")]
    assert run(["audit", "witness", str(copied), *asked, "--memory", str(tmp_path / "memory")]) == 0
    (copied / "private" / "tensorboard").mkdir()
    (copied / "private" / "tensorboard" / "events").write_text("")
    assert noticed(copied) == []


def test_an_auditor_who_makes_the_page_anew_changes_nothing_that_is_signed(copied: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(copied / "release", tmp_path / "received"))
    signed = (alone / "privacy" / "report.html").read_bytes()
    for given, page in ((alone, tmp_path / "received.html"), (copied, copied / "report.html")):
        assert run(["audit", "report", str(given)]) == 0
        assert page.read_bytes() == signed, "the page follows from statement and ledger alone"
        assert noticed(given) == []


def test_a_run_that_ended_without_its_closing_record_is_a_fault(
    simulate: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fedrec.run.scenario_run.fix_files", died)
        assert simulate(*POPULARITY, "--out", "r", "--quiet") == 130
    assert noticed(tmp_path / "r") == ["the run ended and no record fixes its files: finish it with --resume"]
    assert simulate("--resume", "--out", "r", "--quiet") == 0
    assert noticed(tmp_path / "r") == []


# What is private stays


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


def decoded(content: bytes) -> str:
    """A file's text, and that of everything in it which is base64."""
    text = content.decode("latin-1")
    inside = [base64.b64decode(found[: len(found) // 4 * 4]) for found in re.findall(r"[A-Za-z0-9+/]{16,}", text)]
    return "\n".join([text, *(part.decode("latin-1") for part in inside)])


PUBLIC = re.compile("round|users|bytes|epsilon|private")
"""Columns of the history that follow from the plan, or were charged."""


def secrets_of(folder: Path) -> set[str]:
    """Return figures that no epsilon covers, as text, with so many digits that no accident repeats them."""
    private = folder / "private"
    summary, attacks = (json.loads((private / name).read_text()) for name in ("summary.json", "attacks.json"))
    true = [summary[name] for name in ("metrics", "baselines", "order_free", "cost")]
    true += [attacks, summary["evaluation"]["fingerprint"]]
    for attack in attacks:
        del attack["epsilon_proven"], attack["delta"], attack["adversary"], attack["name"], attack["type"]
    with (private / "history.csv").open() as file:
        history = [row[name] for row in csv.DictReader(file) for name in row if not PUBLIC.search(name)]
    private_looks = {repr(value) for value in leaves(summary["evaluation"]["private"])}
    epsilons = set(json.dumps(summary["privacy"]).replace(",", " ").replace("}", " ").split())
    found = {repr(value) for value in leaves(true) if isinstance(value, float)} | set(history)
    found |= {value for value in leaves(attacks) if isinstance(value, str)}
    found |= {f"{value:.4f}" for value in leaves(summary["metrics"]) if isinstance(value, float)}
    found |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in files(private)}
    found = {text for text in found if len(re.sub(r"^[0.]+|0+$|[^0-9a-z]", "", text)) >= 4}
    return found - private_looks - epsilons


def test_nothing_that_no_epsilon_covers_stands_in_the_release_or_its_export(made: Path, tmp_path: Path) -> None:
    assert run(["audit", "export", str(made), "-o", str(tmp_path / "run.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        handed = {f"zip {name}": archive.read(name) for name in archive.namelist()}
    handed |= {str(path.relative_to(made)): path.read_bytes() for path in files(made / "release")}
    private = secrets_of(made)
    assert len(private) > 50
    for name, content in handed.items():
        text = decoded(content)
        assert [secret for secret in private if secret in text] == [], name


def test_no_count_of_events_stands_in_the_release(made: Path) -> None:
    told = json.loads((made / "private" / "summary.json").read_text())["dataset"]
    counts = {str(value) for value in leaves(told) if isinstance(value, int) and value > 150}
    assert str(told["interactions"]) in counts
    for name in ("privacy/statement.json", "privacy/statement.md", "privacy/ledger.jsonl", "model/manifest.json"):
        text = re.sub(r"[0-9a-f]{16,}", "", decoded((made / "release" / name).read_bytes()))
        assert [count for count in counts if re.search(rf"(?<![\d.]){count}(?![\d.])", text)] == [], name


def test_a_person_who_knows_all_other_events_learns_nothing_from_a_hash(made: Path) -> None:
    """The attack: hash the data with each value that the unknown event may have, and look for the hash in the run."""
    dataset = datasets.load(DataConfig(name="quickstart", users=80, items=150, interactions_per_user=12), None, 5)
    split = splits.split(dataset, "leave-one-out", "test", 5)
    guess = hashlib.sha256(b"".join(fingerprint._parts(split))).hexdigest()
    own = json.loads((made / "private" / "summary.json").read_text())["evaluation"]["fingerprint"]
    assert fingerprint.same(own, split), "the guess is right, and the owner of the secret can confirm it"
    assert fingerprint.same(guess, split), "as older versions wrote it"
    for path in files(made):
        assert guess.encode() not in path.read_bytes()


def test_the_salt_and_the_secret_of_fingerprints_are_readable_by_their_owner_alone(made: Path) -> None:
    for path in (made / "private" / "salt", fingerprint.secret_path()):
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32
    assert made not in fingerprint.secret_path().parents
    assert not fixed_private("salt")


def test_the_times_of_files_do_not_show_how_long_rounds_took(made: Path) -> None:
    assert len({path.stat().st_mtime for path in [made / "release", *(made / "release").rglob("*")]}) == 1


def test_only_the_owner_may_enter_the_run_and_its_private_folder(simulate: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o755)
    assert simulate(*POPULARITY, "--set", "evaluation.keep_ranks=true", "--out", "r", "--seed", 1, "--quiet") == 0
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700
    found = [tmp_path / "r" / "private", *(tmp_path / "r" / "private").rglob("*")]
    assert {path.name for path in found} >= {"private", "summary.json", "history.csv", "metrics.svg", "ranks.npz"}
    assert [path for path in found if path.is_file() and path.stat().st_mode & 0o077] == []
    assert found[0].stat().st_mode & 0o777 == 0o700


def test_true_figures_are_called_true_before_epsilon_is_named(simulate: Callable[..., int], capsys: Any) -> None:
    assert simulate(*POPULARITY, "--out", "r", "--seed", 1) == 0
    shown = " ".join(capsys.readouterr().out.split())
    true, promise = shown.index("TRUE figures, which no epsilon covers"), shown.index("Privacy: ")
    assert true < promise
    assert promise < shown.index("r/release: model, ledger, privacy statement, scenario. Only this folder")
    assert "Kept in r/private: true metrics, counts, times, plots, checkpoint. No epsilon covers them." in shown
