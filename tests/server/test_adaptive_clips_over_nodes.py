"""Adaptive clips over nodes: the bits of one process, every trust model, a card with the range, a server that lies."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.policy import Policy
from fedrec_client.node import UserNode
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec import wire
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import FedrecError
from fedrec.federation import exchange
from fedrec.federation.adaptive_clipping import FACTORS, PATH, QUERY, AdaptiveClipping
from fedrec.federation.spec import RunSpec
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.privacy.config import PrivacyConfig
from fedrec.run.coordinator import Coordinator
from tests.server.carded import Carded
from tests.server.deployed import REQUEST, data, deployed, hosted, plan_of, spec_of

ADAPTIVE = ("privacy.clipping.adaptive=true", "privacy.clipping.rate=1.0")
PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-4, clipping=ClippingConfig(adaptive=True, rate=1.0))


@pytest.mark.parametrize("name", ["als", pytest.param("tower-sgd", marks=pytest.mark.slow)])
def test_nodes_and_one_process_give_the_same_bits(name: str) -> None:
    over_nodes, source = deployed(3, name, PRIVACY).run(), data()[1].train
    made = spec_of(name, PRIVACY, len(source)).build(data()[0].catalogue)
    plan = plan_of(made, PRIVACY, len(source))
    federation = InProcessFederation(source, plan, seed=REQUEST.seed)
    together = Coordinator(made, federation, plan).run().shared
    assert over_nodes.keys() == together.keys()
    assert all(torch.equal(over_nodes[name], tensor) for name, tensor in together.items())
    assert len(over_nodes[PATH].unique()) > 2


@pytest.mark.parametrize("trust", ["central", "distributed", "local"])
def test_a_run_is_carded_charged_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str, capsys
) -> None:
    nodes = Carded(tmp_path / "nodes", nodes=3, users=20)
    monkeypatch.setenv(*nodes.environment())
    colluding = ("privacy.colluding=0.0",) if trust == "distributed" else ()
    nodes.run(tmp_path / "run", (*ADAPTIVE, f"privacy.trust={trust}", *colluding))
    assert not nodes.codes()
    assert fedrec(["audit", "verify", str(tmp_path / "run"), "--trust-run-key"]) == 0
    statement = json.loads((tmp_path / "run/release/privacy/statement.json").read_text())
    found = {row["name"]: row.get("factors") for row in statement["releases"]}
    assert found == {"gram": ["0.01", "100.0"], "items": ["0.01", "100.0"], QUERY: None}
    assert "A clip with a range adapts" in (tmp_path / "run/release/privacy/statement.md").read_text()
    assert "A clip with a range adapts" in (tmp_path / "run/release/privacy/report.html").read_text()
    charges = [entry.payload for entry in read_ledger(tmp_path / "run/release/privacy/ledger.jsonl")[0]]
    charged = [query for record in charges if record["type"] == "charge" for query in record["queries"]]
    assert [query["name"] for query in charged] == ["gram", "items", QUERY] * 2
    capsys.readouterr()
    assert fedrec(["audit", "card", str(tmp_path / "run")]) == 0
    assert "clip 3.5 x 0.01 to 100 (adaptive)" in capsys.readouterr().out


def test_a_card_with_another_range_than_the_description_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that shows policies a small range, and asks by a large one."""
    nodes = Carded(tmp_path / "nodes")
    monkeypatch.setenv(*nodes.environment())
    honest = AdaptiveClipping.queries

    def carded(self: AdaptiveClipping, round_index: int):
        return tuple(
            replace(query, factors=None if query.factors is None else (0.5, 2.0)) for query in honest(self, round_index)
        )

    answer = UserNode.answer

    def on_the_node(self: UserNode, packet: wire.Packet) -> wire.Packet:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AdaptiveClipping, "queries", honest)
            return answer(self, packet)

    monkeypatch.setattr(AdaptiveClipping, "queries", carded)
    monkeypatch.setattr(UserNode, "answer", on_the_node)
    with pytest.raises(FedrecError):
        nodes.run(tmp_path / "run", ADAPTIVE)
    assert set(nodes.codes()) == {"terms"}


# ---- a server that lies


def question(value: torch.Tensor, clipping: ClippingConfig | None = PRIVACY.clipping) -> wire.Packet:
    spec = spec_of("als", PRIVACY, 150).model_copy(update={"clipping": clipping})
    state = spec.build(data()[0].catalogue).initial()
    shared = {name: state[name] for name in ("items", "gram")} | {FACTORS: value}
    digests = {name: wire.digest(tensor) for name, tensor in shared.items()}
    return exchange.ask_sum(spec.text(), spec.fingerprint, 1, digests, shared, None, 50)


def careful(folder: Path, policy: Policy) -> tuple[UserNode, DeviceLedger]:
    ledger, place = DeviceLedger(folder / "device-ledger.jsonl", policy), hosted(3)[0]
    return UserNode(lambda _: replace(place, public=False), consent=Consent(policy, ledger)), ledger


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e300, 0.009, 101.0])
def test_a_clip_off_the_range_is_refused_before_anything_is_charged(tmp_path: Path, value: float) -> None:
    """The factor is public, so a refusal shows nothing of anybody's data."""
    node, _ = careful(tmp_path, Policy())
    empty = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    for lie in (torch.tensor([1.0, value], dtype=torch.float64), torch.tensor([value]), torch.tensor(value)):
        answer = node.answer(question(lie))
        assert answer.kind == exchange.REFUSAL
        assert answer.facts == {"code": "terms"}
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == empty
    answer = node.answer(question(torch.ones(2, dtype=torch.float64)))
    assert answer.tensors.keys() == {"gram", "items", QUERY}
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) != empty


@pytest.mark.parametrize(("largest", "accepted"), [(100.0, True), (1000.0, False)])
def test_the_largest_clip_counts_for_the_policy(tmp_path: Path, largest: float, accepted: bool) -> None:
    """`als` clips at 3.5: with a factor of 1,000 that is 3,500, and the default policy allows 1,000."""
    node, _ = careful(tmp_path, Policy())
    packet = question(torch.ones(2, dtype=torch.float64), ClippingConfig(adaptive=True, largest=largest))
    assert (node.answer(packet).kind == exchange.SUMS) == accepted


@pytest.mark.parametrize("factor", [0.01, 0.3, 1.0, 100.0])
def test_a_sum_of_one_user_stays_within_the_clip_whatever_the_factor(factor: float) -> None:
    node = UserNode(lambda _: hosted(3)[0])
    packet = question(torch.full((2,), factor, dtype=torch.float64))
    only = exchange.ask_sum(
        str(packet.facts["spec"]), packet.fingerprint, 1, *exchange.shared_of(packet), np.array([7]), 50
    )
    answer, made = node.answer(only), spec_of("als", PRIVACY, 150).build(data()[0].catalogue)
    plan = plan_of(made, PRIVACY, 150)
    for query in made.queries(1):
        value = query.decode(answer.tensors[query.name], plan.lattice(query))
        assert 0 < float(value.norm()) <= query.clip_norm


def test_the_description_of_a_run_without_it_is_that_of_before() -> None:
    spec = spec_of("als", PrivacyConfig(epsilon=4.0, delta=1e-4), 150)
    assert "clipping" not in json.loads(spec.text())
    assert RunSpec.model_validate_json(spec_of("als", PRIVACY, 150).text()).clipping == PRIVACY.clipping
