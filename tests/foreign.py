"""Packages of strangers, as an installer leaves them: modules and a .dist-info on the path."""

from pathlib import Path

import pytest

ALGORITHM = """
import torch
from fedrec.algorithms.base import Algorithm
from fedrec.algorithms.popularity import PopularityModel
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.settings import Settings


class MineConfig(Settings):
    cap: int = 50


class {name}(Algorithm):
    name = "{called}"
    Config = MineConfig
    rounds = 1

    def initial(self):
        return {{"counts": torch.zeros(len(self.facts.catalogue))}}

    def queries(self, round_index):
        return (SumQuery("counts", (len(self.facts.catalogue),), 5.0, 1.0),)

    def contribute(self, shared, users, round_index):
        counts = torch.zeros(len(users), len(self.facts.catalogue))
        counts.index_put_((users.owners, users.items), torch.ones(()), accumulate=True)
        return {{"counts": DenseContribution(counts)}}

    def update(self, shared, sums, round_index):
        return {{"counts": sums["counts"].value}}

    def release(self, shared):
        return PopularityModel(shared["counts"]).by(self.name)
"""
"""An algorithm on a page, with the name of its class and its own; `format` it."""


def install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, module: str, source: str, entries: dict[str, str]
) -> None:
    """Put a package of one module on the path. entries: `group:name` to the object in it."""
    place = folder / package
    about = place / f"{package.replace('-', '_')}-1.5.dist-info"
    about.mkdir(parents=True)
    (place / f"{module}.py").write_text(source)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (about / "top_level.txt").write_text(f"{module}\n")
    (about / "RECORD").write_text(f"{module}.py,,\n")
    lines = []
    for entry, target in entries.items():
        group, _, name = entry.partition(":")
        lines.append(f"[{group}]\n{name} = {module}:{target}\n")
    (about / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(place))
