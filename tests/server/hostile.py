"""A server that wants histories: it has a ledger key and a node's attention, and asks on any terms, in any order."""

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fedrec_client.node import UserNode

from fedrec import wire
from fedrec.algorithms.discover import algorithm
from fedrec.audit.card.card import TIME
from fedrec.audit.card.publish import LedgerProofs
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.federation.exchange import LedgerProof
from fedrec.federation.spec import RunSpec
from fedrec.wire import Packet
from tests.core.audit.carded import begin, card

USERS, ITEMS = 30, 40
POPULATION = 10_000
SOON = (datetime.now(UTC) + timedelta(days=5)).strftime(TIME)


def histories(folder: Path) -> dict[str, str]:
    """Write the data of a node, and return its configuration; `truth` has what an attack must not find."""
    rng = np.random.default_rng(0)
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{i},movie {i}\n" for i in range(ITEMS)))
    lines = ["user_id,item_id,rating,timestamp"]
    for user, items in truth(rng).items():
        lines += [f"{user},{item},5,{1000 * user + n}" for n, item in enumerate(items)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    return {"data": str(folder / "events.csv"), "catalogue": str(folder / "items.csv")}


def truth(rng: np.random.Generator | None = None) -> dict[int, list[int]]:
    rng = rng or np.random.default_rng(0)
    return {u: sorted(map(int, rng.choice(ITEMS, rng.integers(3, 12), replace=False))) for u in range(USERS)}


class Hostile:
    """One run of the attacker. clip, noise: of its only query; changes: of the first record; trust: that it claims."""

    def __init__(
        self,
        folder: Path,
        key: SigningKey,
        catalogue: Catalogue,
        *,
        clip: float = 1e30,
        mu: float = 1e-9,
        run: str = "run1",
        seed: int = 1,
        sampling: float = 1.0,
        **changes: Any,
    ) -> None:
        self.key, self.clip, self.sampling = key, clip, sampling
        kind = algorithm("popularity")
        self.spec = RunSpec(
            algorithm="popularity",
            settings=kind.Config(counts=True, clip=clip).model_dump(mode="json"),
            data=DataRequest(data=DataConfig(name="nodes"), seed=1).text(),
            catalogue=catalogue.digest,
            users=POPULATION,
            expected_cohort=POPULATION * sampling,
            mu=mu,
            stopping=StoppingConfig(),
            seed=seed,
        )
        made = self.spec.build(catalogue)
        multiplier = 1 / mu
        self.queries = [
            {
                "name": query.name,
                "shape": list(query.shape),
                "clip_norm": repr(float(query.clip_norm)),
                "noise_multiplier": repr(multiplier),
                "noise_std": repr(multiplier * float(query.clip_norm)),
            }
            for query in made.queries(0)
        ]
        if changes.get("trust", "central") != "central":
            changes |= {"shares": {"least": 1, "colluding": 0}}
            for query in self.queries:
                query["discrete"] = integers(query["shape"][0] * query["shape"][-1], multiplier)
        first = begin(
            key,
            sampling={"probability": repr(sampling)},
            population={"users": POPULATION, "known": "declared"},
            rounds=made.rounds,
            plan=[{"rounds": [0, made.rounds - 1], "queries": self.queries}],
            algorithm="popularity",
        )
        own = card(fingerprint=self.spec.fingerprint, minimum_cohort=int(POPULATION * sampling), expires=SOON)
        self.first = first | {"card": own | changes.pop("card", {})} | changes
        self.ledger = Ledger(folder / "ledger.jsonl", key, run=run)
        self.ledger.append(self.first)
        self.proofs = LedgerProofs(self.ledger)

    def charge(self, round_index: int = 0, **changes: Any) -> None:
        made = {"type": "charge", "round": round_index, "queries": copy.deepcopy(self.queries)}
        self.ledger.append(made | {"sampling": repr(self.sampling), "delta": "1e-05"} | changes)

    def proof(self, seen: int | None = None, round_index: int = 0) -> LedgerProof:
        return LedgerProof(
            self.ledger.run, self.proofs.charge(round_index)[1], self.proofs.growth(seen), self.proofs.card_text()
        )

    def question(self, cohort: list[int], proof: LedgerProof | None, shared: dict[str, torch.Tensor] | None = None):
        digests = {name: wire.digest(tensor) for name, tensor in (shared or {}).items()}
        return exchange.ask_sum(
            self.spec.text(), self.spec.fingerprint, 0, digests, shared or {}, np.array(cohort), USERS, proof
        )

    def ask(self, node: UserNode, cohort: list[int], proof: LedgerProof | None) -> Packet:
        return node.answer(self.question(cohort, proof))


def integers(size: int, multiplier: float, squared: int = 1_000_000) -> dict[str, Any]:
    """What a card of users who add the noise states of a query: bounds in integers, and one share of the noise."""
    variance = repr(multiplier**2 * squared)
    made = {"encoding": "plain", "bits": 40, "dimension": size, "squared": squared, "absolute": squared}
    return made | {"length": "1000.0", "share_variance": variance}


def read(answer: Packet, user: int, catalogue: Catalogue) -> bool:
    """Return whether an answer reveals the user's whole history."""
    if answer.kind != exchange.SUMS:
        return False
    counts = answer.tensors["popularity"]
    found = sorted(int(catalogue.ids[int(place)]) for place in counts.nonzero()[:, 0])
    return found == truth()[user]
