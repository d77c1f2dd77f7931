"""Runs of real algorithms over nodes in memory, compared with the same run in one process."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from fedrec_client.hosted_data import Hosted
from fedrec_server.flower.federation import FlowerFederation
from fedrec_server.flower.messenger import Messenger
from fedrec_server.flower.nodes import NodeDirectory
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.algorithms.discover import algorithm
from fedrec.data import datasets, splits
from fedrec.data.datasets import DataConfig, Dataset
from fedrec.data.splits import Split
from fedrec.federation.data_request import DataRequest
from fedrec.federation.hosted import shard
from fedrec.federation.spec import RunSpec
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.run.coordinator import Coordinator
from fedrec.run.federation import FederationConfig
from fedrec.run.setup import set_up_run
from tests.server.grid_in_memory import MemoryGrid
from tests.server.toy import private_sums

DATA = DataConfig(name="quickstart", users=150, items=60, interactions_per_user=12)
REQUEST = DataRequest(data=DATA, seed=5)
SETTINGS = {
    "als": {"dim": 8, "rounds": 2},
    "kernel-rank": {"rounds": 3, "head_items": 20, "cooccurrence": True},
    "tower-sgd": {"rounds": 2, "targets": 2, "negatives": 8},
    "popularity": {},
}


@lru_cache(maxsize=1)
def data() -> tuple[Dataset, Split]:
    dataset = datasets.load(DATA, None, REQUEST.seed)
    return dataset, splits.split(dataset, DATA.split, REQUEST.on, REQUEST.seed)


@dataclass
class Deployed:
    """A run over nodes: all its parts, to be looked at and broken."""

    grid: MemoryGrid
    messenger: Messenger
    federation: FlowerFederation
    algorithm: Algorithm
    plan: PrivacyPlan

    def run(self) -> Shared:
        return Coordinator(self.algorithm, self.federation, self.plan).run().shared

    def round(self, round_index: int = 0, shared: Shared | None = None) -> dict[str, torch.Tensor]:
        self.plan.charge(round_index)
        shared = self.algorithm.initial() if shared is None else shared
        sums = private_sums(self.federation, self.algorithm, shared, round_index)
        return {name: found.value for name, found in sums.items()}


def hosted(nodes: int, users: int | None = None) -> list[Hosted]:
    dataset, split = data()
    train = split.train if users is None else split.train.select(shard(users, 0, 1))
    return [Hosted(train.select(shard(len(train), n, nodes)), dataset.catalogue, n, public=True) for n in range(nodes)]


def spec_of(name: str, privacy: PrivacyConfig, users: int, settings: dict | None = None) -> RunSpec:
    kind = algorithm(name)
    config = kind.Config(**(SETTINGS[name] if settings is None else settings))
    return set_up_run(kind, config, privacy, data()[0].catalogue, users, REQUEST, noise_seed=9).spec


def plan_of(made: Algorithm, privacy: PrivacyConfig, users: int) -> PrivacyPlan:
    rounds = [made.queries(round_index) for round_index in range(made.rounds)]
    return PrivacyPlan.build(privacy, rounds, users, seed=9, label=f"{REQUEST.seed}")


def deployed(
    nodes: int = 3,
    name: str = "popularity",
    privacy: PrivacyConfig | None = None,
    config: FederationConfig | None = None,
    users: int | None = None,
    **bounds: object,
) -> Deployed:
    privacy = privacy or PrivacyConfig(epsilon=2.0, delta=1e-4)
    grid = MemoryGrid.of(hosted(nodes, users), **bounds)
    messenger = Messenger(grid, poll=0.001)
    directory = NodeDirectory.gather(messenger, REQUEST, data()[0].catalogue.digest, nodes, patience=5)
    spec = spec_of(name, privacy, directory.users)
    made = spec.build(data()[0].catalogue)
    plan = plan_of(made, privacy, directory.users)
    config = config or FederationConfig(deadline=5, patience=5)
    federation = FlowerFederation(messenger, directory, plan, spec, config)
    return Deployed(grid, messenger, federation, made, plan)


def in_process(name: str, privacy: PrivacyConfig) -> Shared:
    """The state after the same run in one process."""
    source = data()[1].train
    made = spec_of(name, privacy, len(source)).build(data()[0].catalogue)
    plan = plan_of(made, privacy, len(source))
    return Coordinator(made, InProcessFederation(source, plan, seed=REQUEST.seed), plan).run().shared


def difference(found: Shared, expected: Shared) -> float:
    """The largest relative difference of a tensor, by L2 norms."""
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, tensor in expected.items():
        norm = float(tensor.double().norm())
        worst = max(worst, float((found[name].double() - tensor.double()).norm()) / (norm or 1.0))
    return worst
