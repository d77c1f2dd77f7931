"""A node with private users behind its policy and ledger: honest runs pass bit for bit, and attacks get nothing."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_client.consent.answering import Answer, Asked
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.policy import DataPolicy, PeriodPolicy, Policy, RunPolicy
from fedrec_client.node import COMPUTED, UserNode
from fedrec_client.sources import finder
from fedrec_server.deployment import Deployment
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from flwr.app import Message, RecordDict
from safetensors.torch import load_file

from fedrec import wire
from fedrec.audit.log.ledger import read_ledger
from fedrec.federation import exchange
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.directory import RunDirectory
from fedrec.run.scenario import load_scenario
from tests.client.consent.runs import run
from tests.server.carded import FIRST, Carded
from tests.server.deployed import hosted, spec_of
from tests.server.grid_in_memory import MemoryGrid

Twist = Callable[[Message, RecordDict | None], RecordDict | None]

PRIVATE = PrivacyConfig(epsilon=2.0, delta=1e-5)
FEW = Policy(run=RunPolicy(minimum_cohort=10), period=PeriodPolicy(epsilon=10.0))
"""The defaults for a small population."""


def asked(cohort: list[int] | None, privacy: PrivacyConfig = PRIVATE, shared: float = 1.0, **changed: object):
    """A question of a server about popularity. changed: of the run's description."""
    spec = spec_of("popularity", privacy, 1000).model_copy(update=changed)
    tensors = {"popularity": torch.full((60,), shared)}
    digests = {name: wire.digest(tensor) for name, tensor in tensors.items()}
    positions = None if cohort is None else np.array(cohort, dtype=np.int64)
    return exchange.ask_sum(spec.text(), spec.fingerprint, 0, digests, tensors, positions, 50)


def node(folder: Path, policy: Policy = FEW) -> UserNode:
    here = replace(hosted(3)[0], public=False)
    return UserNode(lambda _: here, consent=Consent(policy, DeviceLedger(folder / "node" / FILE, policy)))


def sums(answer: wire.Packet) -> torch.Tensor:
    assert answer.kind == exchange.SUMS, answer.facts
    return answer.tensors["popularity"]


def read_by(server_node: UserNode, **changed: object) -> int:
    """How many of 30 users' histories the direction of a sum over that user alone shows."""
    source, found = hosted(3)[0].source, 0
    for user in range(30):
        answer = server_node.answer(asked([user], **changed))
        if answer.kind == exchange.SUMS:
            seen = set(np.flatnonzero(answer.tensors["popularity"].numpy()))
            found += seen == set(source.row(user))
    return found


def test_the_attack_that_read_thirty_of_thirty_histories_reads_none(tmp_path: Path) -> None:
    unguarded = UserNode(lambda _: replace(hosted(3)[0], public=False))
    assert read_by(unguarded) == 30, "the attack works where nothing stands against it"
    assert read_by(node(tmp_path / "a")) == 0
    assert read_by(node(tmp_path / "b"), settings={"counts": True, "clip": 1e6}) == 0
    assert read_by(node(tmp_path / "c"), expected_cohort=1.0) == 0
    assert read_by(node(tmp_path / "d", Policy())) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"settings": {"counts": True, "clip": 1e5}},
        {"expected_cohort": 1.0},
        {"mu": 1e-9},
        {"mu": 19.0},
        {"mu": 3.0},
        {"users": 20, "expected_cohort": 20.0},
    ],
)
def test_terms_off_the_policy_are_refused_before_anything_is_charged(changed: dict, tmp_path: Path) -> None:
    made = node(tmp_path)
    answer = made.answer(asked(None, **changed))
    assert answer.facts == {"code": "terms"}
    text = (tmp_path / "node" / FILE).read_text()
    assert '"kind":"refused"' in text
    assert '"kind":"charge"' not in text


def test_another_delta_than_the_policy_s_is_no_way_round_its_epsilon(tmp_path: Path) -> None:
    """A run at delta 1e-3 promises less than it says: epsilon is counted at the policy's delta."""
    loose = spec_of("popularity", PrivacyConfig(epsilon=9.0, delta=1e-4), 1000)
    assert node(tmp_path).answer(asked(None, mu=loose.mu)).facts == {"code": "terms"}


def test_the_charge_is_on_disk_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, found = node(tmp_path), []

    def dies(*_: object, **__: object) -> None:
        found.append((tmp_path / "node" / FILE).read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr("fedrec.federation.hosted.HostedUsers.clipped_sums", dies)
    with pytest.raises(KeyboardInterrupt):
        made.answer(asked(None))
    assert '"kind":"charge"' in found[0]
    assert '"kind":"outcome"' not in (tmp_path / "node" / FILE).read_text()


def test_a_budget_ends_in_zeros_that_a_server_cannot_tell_from_sums(tmp_path: Path) -> None:
    made, answers = node(tmp_path), []
    for number in range(30):
        answers.append(made.answer(asked(None, shared=float(number))))
    values = [bool(sums(answer).any()) for answer in answers]
    given = sum(values)
    assert 0 < given < 30
    assert values == [True] * given + [False] * (30 - given)
    real, zero = answers[0], answers[-1]
    assert {name: (t.dtype, t.shape) for name, t in real.tensors.items()} == {
        name: (t.dtype, t.shape) for name, t in zero.tensors.items()
    }
    assert (real.facts, real.kind, real.fingerprint) == (zero.facts, zero.kind, zero.fingerprint)


def test_an_opted_out_node_answers_and_pays_like_any_other(tmp_path: Path) -> None:
    out = replace(FEW, data=DataPolicy(opted_out=True))
    real, zero = node(tmp_path / "a"), node(tmp_path / "b", out)
    assert sums(real.answer(asked(None))).any()
    assert not sums(zero.answer(asked(None))).any()
    charges = []
    for name in "ab":
        lines = map(json.loads, (tmp_path / name / "node" / FILE).read_text().splitlines())
        charges.append(next(line for line in lines if line["kind"] == "charge"))
    for key in ("gaussian", "renyi", "rows", "paid", "epsilon", "round", "question"):
        assert charges[0][key] == charges[1][key]
    assert [charge["gave"] for charge in charges] == ["all", "none"]


def test_only_the_users_whose_budget_is_left_enter_a_sum(tmp_path: Path) -> None:
    made = node(tmp_path)
    first = list(range(20))
    while sums(made.answer(asked(first, shared=float(torch.rand(()))))).any():
        pass
    mixed = sums(made.answer(asked(list(range(10, 40)), shared=-1.0)))
    alone = UserNode(lambda _: replace(hosted(3)[0], public=False))
    assert torch.equal(mixed, sums(alone.answer(asked(list(range(20, 40)), shared=-1.0))))
    assert float(Lattice.of(1.0, 1000).values(mixed).norm()) > 0


@pytest.mark.parametrize("trust", ["distributed", "local"])
def test_a_card_that_promises_masks_or_noise_that_the_node_does_not_make_is_refused(trust: str, tmp_path: Path) -> None:
    """A server that names a safer trust model would get a central sum, without the limits of one."""
    consent = Consent(FEW, DeviceLedger(tmp_path / "node" / FILE, FEW))
    everybody = np.arange(50)
    terms = run(trust=trust, carded=True, expires=time.time() + 3600)
    question = Asked(0, "q", everybody, everybody[:1], False)
    verdict = consent.decide(terms, question)
    assert verdict.answer is Answer.REFUSE
    assert f"trust model '{trust}'" in verdict.text
    able = Consent(FEW, consent.ledger, computes=("central", trust))
    assert able.decide(terms, question).answer is Answer.GIVE


class Own(Carded):
    """Two nodes with 60 private users each, behind gates, policies and ledgers."""

    policy: Policy = FEW
    users_here = 60
    lost = False

    def node(self, n: int, **options: object) -> UserNode:
        file = self.folder / f"{n}.csv"
        rows = [f"{n * 100 + u},{(u * k + n) % 30}" for u in range(self.users_here) for k in range(1, 6)]
        file.write_text("\n".join(["user_id,item_id", *rows]) + "\n")
        (self.folder / "items.csv").write_text("item_id,title\n" + "".join(f"{i},film {i}\n" for i in range(30)))
        ledger = DeviceLedger(self.folder / f"node{n}" / FILE, self.policy)
        find = finder({"data": str(file), "catalogue": str(self.folder / "items.csv")})
        return UserNode(find, gate=self.gate(n, **options), consent=Consent(self.policy, ledger, COMPUTED))

    def deploy(self, out: Path, *changes: str, twist: Twist | None = None) -> dict[str, torch.Tensor]:
        file = self.folder / "own.toml"
        file.write_text(
            f'[data]\nname = "nodes"\ncatalogue = "{self.folder / "items.csv"}"\n[algorithm]\nname = "popularity"\n'
            "[privacy]\nepsilon = 4.0\ndelta = 1e-5\n[engine]\nnodes = 2\n"
            "[federation]\ndeadline = 0.1\npatience = 0.1\n"
        )
        grid = MemoryGrid({FIRST + n: self.node(n) for n in range(self.nodes)})
        if twist is not None:
            grid.twists[FIRST] = twist
        scenario = load_scenario(str(file), list(changes))
        Deployment(scenario, RunDirectory(out), Messenger(grid, poll=0.001)).run()
        return load_file(out / "release" / "model" / "model.safetensors")

    def forget(self, message: Message, record: RecordDict | None) -> RecordDict | None:
        """Lose the first answer to a question of a round."""
        lost = not self.lost and message.metadata.message_type == "train"
        self.lost = self.lost or lost
        return None if lost else record

    def charges(self, n: int = 0) -> list[dict]:
        lines = map(json.loads, (self.folder / f"node{n}" / FILE).read_text().splitlines())
        return [line for line in lines if line["kind"] == "charge"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    made = Own(tmp_path, users=60)
    monkeypatch.setenv(*made.environment())
    return made


def test_an_honest_run_passes_and_costs_what_its_plan_says(own: Own, tmp_path: Path) -> None:
    own.deploy(tmp_path / "run")
    charge = own.charges()[-1]
    assert (charge["paid"], charge["gave"], charge["rows"]) == ("all", "all", 60)
    records = [entry.payload for entry in read_ledger(tmp_path / "run" / "release" / "privacy" / "ledger.jsonl")[0]]
    planned = [float(record["epsilon"]["pld"]) for record in records if record["type"] == "charge"][-1]
    assert planned * (1 - 2e-3) <= charge["epsilon"] <= 4.0 * (1 + 1e-3), "PLD rounds up by a thousandth"


def test_a_sampled_run_costs_those_who_take_part(own: Own, tmp_path: Path) -> None:
    own.deploy(tmp_path / "run", "privacy.sampling=0.5")
    charge = own.charges()[-1]
    assert charge["paid"] not in ("all", "none")
    assert charge["paid"] == charge["gave"]
    assert charge["epsilon"] > 4.0, "no amplification against the server, which chose the cohort"


def test_one_honest_run_after_the_other_ends_in_zeros(own: Own, tmp_path: Path) -> None:
    for number in range(4):
        own.deploy(tmp_path / f"run{number}", "privacy.epsilon=7")
    gave = [charge["gave"] for charge in own.charges()]
    assert gave[0] == "all"
    assert gave[-1] == "none"
    assert len(gave) == 4


def test_a_run_on_other_terms_gets_no_answer(own: Own, tmp_path: Path) -> None:
    with pytest.raises(TooFewNodes):
        own.deploy(tmp_path / "run", "privacy.epsilon=20")
    assert not own.charges()


def test_a_lost_answer_is_sent_again_for_one_charge(own: Own, tmp_path: Path) -> None:
    own.deploy(tmp_path / "run", "federation.deadline=8", twist=own.forget)
    assert own.lost
    assert len(own.charges()) == 1


def test_a_node_that_lost_its_answer_too_pays_again(own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedrec_client.node.MOST_HELD", 0)
    own.deploy(tmp_path / "run", "federation.deadline=8", twist=own.forget)
    first, second = own.charges()
    assert first["question"] == second["question"]
    assert second["epsilon"] > first["epsilon"]
