"""`fedrec export --onnx`: scores as torch gives them, lists as the device makes them, and only of the same model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.algorithms.discover import load_model
from fedrec.algorithms.spectral import SpectralModel
from fedrec.cli import run as command
from fedrec.model import ReleasedModel
from fedrec.ondevice.base import Asked
from fedrec.ondevice.factors import FactorModel
from fedrec.ondevice.history import History
from fedrec.ondevice.released import load
from fedrec.testing.ondevice import save_released
from fedrec.testing.toy_users import batch_of
from tests.client.edge.devices import IDS, als, kernel_rank, of_ratings, released

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from fedrec.exports.onnx_graph import onnx_bytes  # noqa: E402
from fedrec.ondevice.onnx_table import load_onnx  # noqa: E402

ROWS = [[3], [1, 2, 3, 4], list(range(20)), [7, 7]]


def spectral() -> ReleasedModel:
    made = torch.Generator().manual_seed(5)
    table = torch.randn(len(IDS), 4, generator=made)
    return SpectralModel(table, torch.randn(len(IDS), 4, generator=made), torch.rand(len(IDS))).by("spectral")


def local(kind: str) -> ReleasedModel:
    from fedrec.algorithms.fedncf import FedNCFModel
    from fedrec.algorithms.pfedrec import PFedRecModel

    made = torch.Generator().manual_seed(2)
    table, popularity = torch.randn(len(IDS), 6, generator=made), torch.rand(len(IDS), generator=made)
    settings = {"events": 20, "negatives": 2, "steps": 3, "rate": 0.5}
    if kind == "fedncf":
        network = torch.randn(3 + 2 * 3 * 5 + 2 * 5, generator=made)  # 3 a half, 5 hidden units
        return FedNCFModel(table, network, popularity, settings).by("fedncf")
    return PFedRecModel(table, torch.zeros(0), popularity, settings | {"own_steps": 0, "own_rate": 0.0}).by("pfedrec")


@pytest.mark.parametrize("make", [als, spectral, of_ratings], ids=lambda each: each.__name__)
def test_scores_are_those_of_torch(make, tmp_path: Path) -> None:
    folder = save_released(make(), tmp_path / "model")
    model, form = load_model(folder), load(folder)
    assert isinstance(form, FactorModel)
    users = batch_of(ROWS, items=len(IDS))
    if form.needs_ratings:
        four = torch.full_like(users.items, 4).float()
        users = type(users)(users.items, users.lengths, users.n_items, users.keys, ratings=four).unordered()
    states = [
        form.fit(History(np.array(row), np.full(len(row), 4, np.float32) if form.needs_ratings else None))
        for row in ROWS
    ]
    vectors = np.stack([form.vector(state) for state in states]).astype(np.float32)
    session = onnxruntime.InferenceSession(onnx_bytes(folder), providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"vector": vectors})[0]
    expected = model.score(model.fit(users)).numpy()
    assert np.abs(scores - expected).max() < 1e-5 * np.abs(expected).max()
    assert onnx_bytes(folder) == onnx_bytes(folder)


def test_a_device_with_the_file_makes_the_same_lists(tmp_path: Path) -> None:
    for number, made in enumerate((als(), spectral(), of_ratings(), local("pfedrec"), local("fedncf"))):
        folder, file = save_released(made, tmp_path / f"model-{number}"), tmp_path / f"{number}.onnx"
        assert command(["export", str(folder), "--onnx", str(file)]) == 0
        own, other = load(folder), load_onnx(folder, file)
        ratings = [np.full(len(row), 4, np.float32) if own.needs_ratings else None for row in ROWS]
        histories = [History(np.array(row), given) for row, given in zip(ROWS, ratings, strict=True)]
        asked = [Asked(own.fit(each), 9, each.items) for each in [*histories, History()]]
        for found, expected in zip(other.top_many(asked), own.top_many(asked), strict=True):
            assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        again = [Asked(other.fit(each.state.history), 9, each.exclude) for each in asked]
        for found, expected in zip(map(other.top_many, [[each] for each in again]), own.top_many(asked), strict=True):
            assert [part.tolist() for part in found[0]] == [part.tolist() for part in expected]


def test_files_of_other_models_and_no_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, other = released(als(0), tmp_path / "run"), released(als(1), tmp_path / "other")
    file = tmp_path / "scores.onnx"
    assert command(["export", str(run), "--onnx", str(file)]) == 0
    with pytest.raises(Exception, match="another model"):
        load_onnx(other / "release/model", file)
    (tmp_path / "broken.onnx").write_bytes(file.read_bytes()[:100])
    with pytest.raises(Exception, match="no ONNX file"):
        load_onnx(run / "release/model", tmp_path / "broken.onnx")
    capsys.readouterr()
    assert command(["export", str(run), "--onnx", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert command(["export", str(released(kernel_rank(), tmp_path / "k")), "--onnx", str(tmp_path / "k.onnx")]) == 2
    assert "is no product with an item table" in capsys.readouterr().err
