"""Released models and devices for tests: small models of each kind, as a run writes them."""

import hashlib
import json
from pathlib import Path

import torch
from fedrec_client import EdgeClient, KeyFile

from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.tower_model import RatingTowerModel, SolverConfig
from fedrec.model import ReleasedModel
from fedrec.ondevice.public_items import PublicItems
from fedrec.recommend.public_items import public_items
from fedrec.testing.ondevice import save_released
from fedrec.testing.toy_users import planted_catalogue
from tests.core.kernels.test_space import ITEMS, networked, space

IDS = [f"item-{n}" for n in range(ITEMS)]


def als(seed: int = 0) -> ReleasedModel:
    table = torch.randn(ITEMS, 6, generator=torch.Generator().manual_seed(seed))
    return ALSModel(table, table.T @ table, torch.arange(float(ITEMS)), alpha0=0.3, reg=0.01, nu=1.0).by("als")


def kernel_rank(seed: int = 0) -> ReleasedModel:
    return networked(space()).by("kernel-rank")


def of_ratings(seed: int = 0) -> ReleasedModel:
    table = torch.randn(ITEMS, 4, generator=torch.Generator().manual_seed(seed))
    solver = SolverConfig(alpha0=0.0, reg=0.1, decay=1.0, steps=0, scale=1.0, ratings=True)
    return RatingTowerModel(table, torch.linspace(2, 4, ITEMS), solver)


def released(model: ReleasedModel, run: Path, ids: list[str] | None = None) -> Path:
    """Write the model as a run does, with the ids of its items; return the run's folder."""
    folder = save_released(model, run / "release" / "model")
    content = ("[\n" + ",\n".join(map(json.dumps, ids or IDS)) + "\n]\n").encode()
    (folder / "items.json").write_bytes(content)
    about = json.loads((folder / "manifest.json").read_text())
    about["items"] = {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(about))
    return run


def features(file: Path) -> Path:
    """Write public features of the items."""
    found: PublicItems = public_items(planted_catalogue(ITEMS))
    found.write(file)
    return file


def device(path: Path, run: Path | None = None) -> EdgeClient:
    return EdgeClient.open(path, KeyFile(path / "events.key"), model=run)


def listed(client: EdgeClient, k: int = ITEMS) -> list[tuple[str, float]]:
    """The list with the bits of its scores."""
    return [(each.item, each.score) for each in client.recommend(k, diversity=0.0)]
