"""`fedrec compress`: the device and torch read the same model, the record ties it to the ledger, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fedrec
from fedrec.algorithms.discover import load_model
from fedrec.cli import run as command
from fedrec.compress import packing
from fedrec.compress.compressed import sizes
from fedrec.compress.distil import public_histories
from fedrec.ondevice.history import History
from fedrec.ondevice.released import open_released
from fedrec.recommend.device_lists import differing
from fedrec.testing.toy_users import batch_of
from tests.client.edge.devices import IDS, als, kernel_rank, of_ratings, released

STEPS = [["--int8"], ["--int4"], ["--prune", "0.5"], ["--prune", "0.4", "--int8"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = fedrec.load_dataset("quickstart", users=60, items=120)
    folder = tmp_path_factory.mktemp("source") / "run"
    settings = {"algorithm.dim": 16, "algorithm.rounds": 2}
    run = fedrec.simulate("als", data, epsilon=8, seed=1, progress=False, settings=settings)
    return run.save(folder)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    code = command(list(map(str, words)))
    found = capsys.readouterr().err
    assert (code, found.count("\n")) == (2, 1), found
    return found


@pytest.mark.parametrize("steps", STEPS, ids="-".join)
@pytest.mark.parametrize("kind", [als, kernel_rank, of_ratings], ids=lambda each: each.__name__)
def test_a_device_lists_what_torch_lists_of_a_compressed_model(
    steps: list[str], kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = released(kind(), tmp_path / "run")
    monkeypatch.setattr(packing, "LEAST", 8)
    assert command(["compress", str(run), *steps, "-o", str(tmp_path / "small")]) == 0
    folder = tmp_path / "small/release/model"
    model, opened = load_model(folder), open_released(folder)
    assert "packed" in json.loads((folder / "manifest.json").read_text())
    indexed = open_released(folder, tmp_path / "index")
    if not opened.model.needs_ratings:
        people = batch_of([[], [3], [1, 2, 3, 4], list(range(20))], items=len(IDS))
        assert differing(model, opened.model, people, 10) == []
    history = History(np.array([3, 4]), np.ones(2, np.float32) * 4)
    for found, again in zip(
        opened.model.top(opened.model.fit(history), 9), indexed.model.top(indexed.model.fit(history), 9), strict=True
    ):
        assert np.array_equal(found, again)
    why = opened.model.attribute(opened.model.fit(history), 7)
    assert why.events
    assert why.gap < 1e-9


def test_a_compressed_release_verifies_and_is_made_again_to_the_byte(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small"
    assert command(["compress", str(trained), "--distil", "8", "--int8", "-o", str(small)]) == 0
    assert "% of" in capsys.readouterr().out
    assert command(["audit", "verify", str(small), "--trust-run-key"]) == 0
    assert "the model was made of the released one" in capsys.readouterr().out
    assert command(["compress", str(trained), "--check", str(small)]) == 0
    assert sizes(small / "release/model")[0] < 0.3 * sizes(trained / "release/model")[0]
    assert fedrec.load_model(small).recommend(history=["3", "7"], k=2).height == 2
    capsys.readouterr()
    assert "compressed already" in refused(capsys, "compress", small, "--int8", "-o", tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("model/model.safetensors", None, b"\0", "is not the file that derivation.json names"),
        ("model/items.json", b'"', b'"x', "items.json is not that of the source"),
        ("privacy/statement.json", b"guarantee", b"quarantee", "statement.json is not that of the source"),
        ("derivation.json", b'"source"', b'"sauce"', "is no record"),
        ("source.zip", None, b"\0", ""),
    ],
)
def test_a_changed_file_does_not_verify(
    name: str, old: bytes | None, new: bytes, fault: str, trained: Path, tmp_path: Path, capsys
) -> None:
    small = tmp_path / "small"
    assert command(["compress", str(trained), "--int4", "-o", str(small)]) == 0
    file = small / "release" / name
    content = file.read_bytes()
    file.write_bytes(content + new if old is None else content.replace(old, new, 1))
    capsys.readouterr()
    assert command(["audit", "verify", str(small), "--trust-run-key"]) in (2, 4)
    printed = capsys.readouterr()
    assert fault in printed.out + printed.err
    if name.startswith("model/model"):
        assert command(["compress", str(trained), "--check", str(small)]) == 4


def test_another_model_under_a_genuine_ledger_does_not_verify(trained: Path, tmp_path: Path, capsys) -> None:
    """A thief takes the source's ledger for a model of his own: the record has to name what the ledger names."""
    small, other = tmp_path / "small", tmp_path / "other"
    assert command(["compress", str(trained), "--int8", "-o", str(small)]) == 0
    stolen = shutil.copytree(trained, tmp_path / "stolen")
    about = json.loads((stolen / "release/model/manifest.json").read_text()) | {"made_by": "thief"}
    (stolen / "release/model/manifest.json").write_text(json.dumps(about))
    shutil.rmtree(stolen / "release/privacy")
    assert command(["compress", str(stolen), "--int8", "-o", str(other)]) == 0
    assert command(["audit", "verify", str(other), "--trust-run-key"]) == 2, "without a ledger there is none to verify"
    shutil.copy(small / "release/source.zip", other / "release/source.zip")
    capsys.readouterr()
    assert command(["audit", "verify", str(other), "--trust-run-key"]) == 4
    assert "the ledger of the source names another manifest.json" in capsys.readouterr().out
    assert command(["compress", str(trained), "--check", str(other)]) == 4
    capsys.readouterr()
    shutil.copytree(trained / "release/privacy", stolen / "release/privacy")
    assert "ledger of the source names another" in refused(
        capsys, "compress", stolen, "--int8", "-o", tmp_path / "more"
    ).replace("manifest.json", "")
    assert not (tmp_path / "more").exists()


def test_what_cannot_be_done_is_one_line(trained: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert "nothing to do" in refused(capsys, "compress", trained, "-o", out)
    assert "needs --out" in refused(capsys, "compress", trained, "--int8")
    assert "one of --int8" in refused(capsys, "compress", trained, "--int8", "--int4", "-o", out)
    assert "do not go together" in refused(capsys, "compress", trained, "--int4", "--prune", "0.5", "-o", out)
    assert "prune" in refused(capsys, "compress", trained, "--prune", "1.5", "-o", out)
    assert "choose fewer" in refused(capsys, "compress", trained, "--distil", "16", "-o", out)
    kernel = released(kernel_rank(), tmp_path / "kernel")
    assert "cannot be distilled" in refused(capsys, "compress", kernel, "--distil", "2", "-o", out)
    assert "no compressed release" in refused(capsys, "compress", trained, "--check", trained)
    assert not out.exists()
    out.mkdir()
    assert "exists already" in refused(capsys, "compress", trained, "--int8", "-o", out)


def test_public_histories_follow_from_the_released_model_alone(trained: Path) -> None:
    model = load_model(trained / "release/model")
    one, again = public_histories(model, 20, 3), public_histories(model, 20, 3)
    assert one.items.tolist() == again.items.tolist() != public_histories(model, 20, 4).items.tolist()
    assert all(len(set(one.slice(row, row + 1).items.tolist())) == int(one.lengths[row]) for row in range(20))
