"""The attacker's curve and the reservation in a shared budget must follow from the charges."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrec.audit.accountant import recompute
from fedrec.audit.budget.budget_file import create
from fedrec.audit.budget.reservation import Reservation
from fedrec.audit.entries.account import account
from fedrec.audit.log.ledger import Ledger
from fedrec.audit.statement import run_records
from fedrec.audit.verify import end_checks
from fedrec.audit.verify.verification import verify
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import Filter
from tests.core.audit import ledgers
from tests.core.audit.audited_run import BUDGET
from tests.core.audit.ledgers import KEY, forged, payloads_of, plan_of

SAMPLED = payloads_of(plan_of(epsilon=2.0, sampling=0.3))
Payload = dict[str, Any]


@pytest.mark.parametrize(("sampling", "z", "count"), [(0.3, 1.5, 5), (0.02, 0.8, 40), (0.5, 4.0, 3)])
def test_deltas_are_those_of_the_other_accountant(sampling: float, z: float, count: int) -> None:
    epsilons = [0.0, 0.3, 1.0, 2.0]
    ours, step = recompute.deltas([[(sampling, z, 1)]] * count, epsilons, 1e-6)
    theirs = np.array(accounting.deltas_pld([Event(sampling, z, count)], epsilons))
    assert step < 0.01
    assert np.all(np.abs(ours - theirs) <= 1e-2 * theirs + 1e-4)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-2)


@pytest.mark.parametrize("settings", [{}, {"sampling": 0.3}, {"sampling": 0.05, "epsilon": 8.0}, {"epsilon": "none"}])
def test_a_genuine_end_passes(settings: dict[str, Any]) -> None:
    payloads = payloads_of(plan_of(**({"epsilon": 1.0} | settings)))
    assert end_checks.check(account(payloads)) == []
    assert (payloads[-1]["curve"] is None) == ("sampling" not in settings)


def test_a_curve_below_what_the_events_allow_is_a_fault() -> None:
    def half(payloads: list[Payload]) -> None:
        for pair in payloads[-1]["curve"]:
            pair["delta"] = f"{float(pair['delta']) / 2:.5e}"

    def shifted(payloads: list[Payload]) -> None:
        for pair in payloads[-1]["curve"]:
            pair["epsilon"] = f"{0.9 * float(pair['epsilon']):.4f}"

    for change in (half, shifted):
        found = verify(forged(SAMPLED, change), KEY.public).faults
        assert any("the attacker's curve has delta" in line for line in found)
    full = payloads_of(plan_of(epsilon=2.0))
    found = verify(forged(full, lambda p: p[-1].update(curve=SAMPLED[-1]["curve"])), KEY.public).faults
    assert any("no sampled release has one" in line for line in found)


def test_a_run_with_less_of_the_attacker_in_its_record_is_shown_the_plain_bound() -> None:
    payloads = copy.deepcopy(SAMPLED)
    payloads[-1]["curve"] = None
    read = ledgers.Read(ledgers.lines_of(payloads))
    stated = ledgers.of_ledger(read)
    assert [pair.delta for pair in stated.curve.bounds] == ["1e-05"]
    assert any("the curve of the best attacker" in what for what in stated.not_recorded)


@pytest.mark.parametrize(("law", "sampling"), [("gdp", 1.0), ("renyi", 0.3)])
def test_what_a_run_reserved_covers_what_it_charged(law: str, sampling: float, tmp_path: Path) -> None:
    plan = plan_of(epsilon=2.0, sampling=sampling)
    create(tmp_path / "b.json", "films", "people", Filter.make(law, 6.0, 1e-5))
    ledger = Ledger(tmp_path / "privacy" / "ledger.jsonl", KEY)
    about = {"data": "toy", "users": 1000, "target_epsilon": "2.0", "noise": "secret"}
    with Reservation(tmp_path / "b.json", ledger.path, plan.planned, about) as drawing:
        reservation = drawing.reservation()
        assert reservation.head == drawing.budget.history_hash
        ledger.append(ledgers.begun(plan, budget=reservation))
        for round_index in range(len(plan.rounds)):
            ledger.append(plan.charge(round_index).payload())
        ledger.append(ledgers.ended(len(plan.rounds), run_records.curve(plan)))
    payloads = [entry.payload for entry in ledger.entries]
    assert end_checks.check(account(payloads)) == []
    for change, message in (
        ({"reserved": "0.010000"}, "of the shared budget, and 0.010000 was reserved"),
        ({"limit": "99.000000"}, "is above what its cap allows"),
        ({"all_runs": reservation.limit + "1"}, "do not fit"),
        ({"filter": "hope"}, "which is unknown"),
    ):
        lie = [payloads[0] | {"budget": payloads[0]["budget"] | change}, *payloads[1:]]
        assert any(message in line for line in end_checks.check(account(lie))), change


def test_the_verification_looks_at_the_budget() -> None:
    plan = plan_of(epsilon=2.0)
    payloads = payloads_of(plan)
    found = forged(payloads, lambda p: p[0].update(budget=BUDGET.model_dump() | {"reserved": "0.000001"}))
    assert any("of the shared budget, and 0.000001 was reserved" in line for line in verify(found, KEY.public).faults)
