"""Runs over nodes in memory that are devices and hubs: stores, policies, ledgers and gates as a deployment has them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_client import Event, KeyFile
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import POLICY, write_policy
from fedrec_client.consent.policy import PeriodPolicy, Policy, RunPolicy
from fedrec_client.node import COMPUTED, UserNode
from fedrec_client.participation.device_node import device_node
from fedrec_client.participation.device_run import DeviceRun
from fedrec_client.participation.store_mark import StoreMark
from fedrec_client.sources import finder
from fedrec_client.store import Store
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger

from fedrec.federation.data_request import DataRequest
from fedrec.ondevice.kernel_items import features_of
from fedrec.privacy.discrete.stream import WordStream
from fedrec.recommend.kernel_items import kernel_items
from fedrec.recommend.run_items import run_items
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from tests.server.carded import FIRST, Carded
from tests.server.grid_in_memory import MemoryGrid

FEW = Policy(run=RunPolicy(minimum_cohort=4, smallest_sum=2, colluding=0.0), period=PeriodPolicy(epsilon=10.0))
ITEMS = 24
DAY_ONE = 1.7e9


def rows_of(user: int) -> list[int]:
    return [(user * k + user) % ITEMS for k in range(1, 6)]


def person(folder: Path, items: list[int], policy: Policy = FEW, events: list[Event] | None = None) -> Path:
    """Make a device with a store and a policy."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Store.open(folder / "events.store", KeyFile(folder / "events.key")) as store:
        made = [Event(str(item), "view", DAY_ONE + n) for n, item in enumerate(items)]
        store.append_many(made if events is None else events)
        StoreMark(folder, store).renew(DAY_ONE)
    if not (folder / POLICY).exists():
        write_policy(folder / POLICY, policy)
    return folder


@dataclass
class Asked:
    """One computation of a device node, for an oracle."""

    text: str
    shared: dict[str, np.ndarray]
    round_index: int
    cohort: np.ndarray
    give: np.ndarray
    noise: bool
    sums: dict[str, np.ndarray]
    bits: dict[str, int]


@dataclass
class Devices(Carded):
    """Nodes of devices: `sizes[n]` of them at node n, a hub unless it is a single one."""

    sizes: tuple[int, ...] = (4, 4, 1)
    with_torch: bool = False
    seen: dict[int, list[Asked]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.nodes = len(self.sizes)
        super().__post_init__()
        limits = json.loads(self.limits.read_text())
        for n, size in enumerate(self.sizes):
            limits[str(FIRST + n)]["users"] = size
            for u in range(size):
                person(self.device(n, u), rows_of(self.user(n, u)))
        self.limits.write_text(json.dumps(limits))
        rows = "".join(f"{i},film {i},{1990 + i % 7},{'a|b' if i % 2 else 'a'}\n" for i in range(ITEMS))
        (self.folder / "items.csv").write_text(f"item_id,title,year,genres\n{rows}")
        catalogue = self.oracle(0)(self.request.text()).catalogue
        run_items(catalogue).write(self.folder / "items.json")
        features = kernel_items(catalogue)
        if features is not None and not self.with_torch:
            features.write(features_of(self.folder / "items.json"))

    @property
    def request(self) -> DataRequest:
        return DataRequest(data=self.scenario().data, seed=1)

    def user(self, n: int, u: int) -> int:
        return sum(self.sizes[:n]) + u

    def device(self, n: int, u: int) -> Path:
        place = self.folder / f"node{n}"
        return place / f"d{u}" if self.sizes[n] > 1 else place / "one"

    def oracle(self, n: int) -> Any:
        """What finds the same people's events in a file, for a node with torch."""
        lines = [
            f"{u},{item},{place}" for u in range(self.sizes[n]) for place, item in enumerate(rows_of(self.user(n, u)))
        ]
        file = self.folder / f"{n}.csv"
        file.write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
        return finder({"data": str(file), "catalogue": str(self.folder / "items.csv")})

    def node(self, n: int, **options: Any) -> UserNode:
        place = self.folder / f"node{n}"
        config = {"items": str(self.folder / "items.json")}
        config |= {"catalogue": str(self.folder / "items.csv")} if self.with_torch else {}
        config |= {"hub": str(place)} if self.sizes[n] > 1 else {"store": str(self.device(n, 0))}
        own = place if self.sizes[n] > 1 else self.device(n, 0)
        ledger = DeviceLedger(own / FILE, FEW)
        words = options.pop("words", WordStream.fresh)
        made = device_node(config, FEW, self.gate(n, **options), Consent(FEW, ledger, COMPUTED), words)
        prepare, seen = made._prepare, self.seen.setdefault(n, [])

        def noted(text: str, *given: Any) -> DeviceRun:
            run = prepare(text, *given)
            sums = run.sums

            def kept(shared, round_index, cohort, give, *, noise):
                found = sums(shared, round_index, cohort, give, noise=noise)
                bits = {} if not run.noised else {name: wide for name, wide, _ in run.layout(round_index).queries}
                seen.append(Asked(text, dict(shared), round_index, cohort, give, noise, found, bits))
                return found

            run.sums = kept
            return run

        made._prepare = noted
        return made

    def scenario(self, *changes: str):
        file = self.folder / "own.toml"
        file.write_text(
            f'[data]\nname = "nodes"\ncatalogue = "{self.folder / "items.csv"}"\n[algorithm]\nname = "popularity"\n'
            f"[privacy]\nepsilon = 4.0\ndelta = 1e-5\n[engine]\nnodes = {self.nodes}\n"
            "[federation]\ndeadline = 0.1\npatience = 0.1\n"
        )
        return load_scenario(str(file), list(changes))

    def deploy(self, out: Path, *changes: str, **options: Any) -> Path:
        made = {FIRST + n: self.node(n, **options) for n in range(self.nodes)}
        grid = MemoryGrid(made)
        grid.arrays = dict.fromkeys(made, "numpy")
        Deployment(self.scenario(*changes), RunDirectory(out), Messenger(grid, poll=0.001)).run()
        return out

    def charges(self, n: int, u: int = 0) -> list[dict]:
        file = self.device(n, u) / FILE
        lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
        return [line for line in lines if line["kind"] == "charge"]
