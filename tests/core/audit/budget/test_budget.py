"""A shared budget: the sum never passes the limit and never falls below what was released, whatever happens."""

import json
import multiprocessing
import tempfile
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.audit.budget import budget as budgets
from fedrec.audit.budget import budget_file
from fedrec.audit.budget.budget import digest, noise_text, parse, read, render, seed_of
from fedrec.audit.budget.budget_file import create, locked, reserve, settle
from fedrec.audit.budget.reservation import Reservation, read_tie, settle_left
from fedrec.audit.entries.events import MECHANISM, charges, events_of, to_json
from fedrec.audit.log.ledger import Ledger, read_ledger
from fedrec.cli import run as fedrec
from fedrec.errors import BudgetExhausted, FedrecError, InputError, PrivacyError, VerificationError
from fedrec.privacy.accounting import Event
from fedrec.privacy.filters import Filter

ABOUT = {"data": "log", "users": 100, "target_epsilon": "1.0", "noise": "secret"}
HALF = [Event(1.0, 2.0)]
"""mu^2 = 1/4, of 0.517 at epsilon 3 and delta 1e-5."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    create(tmp_path / "b.json", "b", "people", Filter.make("gdp", 3.0, 1e-5))
    return tmp_path / "b.json"


def begin(file: Path, folder: Path, planned=HALF, about=ABOUT) -> tuple[Reservation, Ledger]:
    ledger = Ledger(folder / "privacy" / "ledger.jsonl")
    drawing = Reservation(file, ledger.path, planned, about)
    drawing.__enter__()
    return drawing, ledger


def charge(drawing: Reservation, ledger: Ledger, *events: Event) -> None:
    """Charge a round as a coordinator does."""
    drawing.allow([*events_of(charges(entry.payload for entry in ledger.entries)), *events])
    charged = [{"mechanism": MECHANISM, **event} for event in to_json(events)]
    terms = {"round": 0, "queries": [], "sampling": "1.0", "delta": "1e-05"}
    ledger.append({"type": "charge", **terms, "events": charged, "epsilon": {"pld": "1.0", "rdp": "1.0"}})


def crash(drawing: Reservation) -> None:
    drawing.__exit__(KeyboardInterrupt, None, None)


KINDS = ["start", "charge", "charge", "other", "crash", "resume", "end", "settle"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=12, max_size=30)
PLANS = st.lists(
    st.lists(st.builds(Event, st.sampled_from([1.0, 0.3]), st.floats(1.5, 20.0)), max_size=4), min_size=4, max_size=4
)


@given(STEPS, PLANS, st.sampled_from(["gdp", "renyi"]))
@settings(deadline=None, max_examples=25)
def test_no_sequence_passes_the_cap_or_hides_a_release(steps, plans, name):
    rule = Filter.make(name, 6.0, 1e-5)
    steps = [*(("start", which) for which in range(4)), *steps]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "b.json"
        create(file, "b", "people", rule)
        live: dict[int, tuple[Reservation, Ledger]] = {}
        ledgers = {which: Path(folder) / str(which) / "privacy" / "ledger.jsonl" for which in range(4)}
        for step, which in steps:
            try:
                if step in ("start", "resume") and which not in live:
                    live[which] = begin(file, Path(folder) / str(which), plans[which])
                elif step in ("charge", "other") and which in live:
                    done = len(live[which][1].entries)
                    planned = plans[which][done] if step == "charge" and done < len(plans[which]) else Event(1.0, 2.0)
                    charge(*live[which], planned)
                elif step == "crash" and which in live:
                    crash(live.pop(which)[0])
                elif step == "end" and which in live:
                    live.pop(which)[0].__exit__(None, None, None)
                elif step == "settle":
                    settle_left(file, ledgers[which])
            except (BudgetExhausted, InputError):
                pass
            except VerificationError as error:
                if "knows no run" not in str(error):  # a run that was refused has nothing to settle
                    raise
            now = read(file)
            released = {
                which: events_of(charges(entry.payload for entry in read_ledger(path)[0]))
                for which, path in ledgers.items()
                if path.exists()
            }
            counted = {tie.run: which for which, path in ledgers.items() if (tie := read_tie(path)) is not None}
            assert sum(rule.cost(events) for events in released.values()) <= now.spent <= now.limit
            for entry in now.entries.values():
                assert rule.cost(released[counted[entry.run]]) <= entry.cost <= entry.reserved_cost
        for drawing, _ in live.values():
            crash(drawing)


def test_what_was_not_released_is_handed_back_and_the_run_is_over(file, tmp_path):
    drawing, ledger = begin(file, tmp_path / "a", [Event(1.0, 2.0), Event(1.0, 4.0)])
    charge(drawing, ledger, Event(1.0, 4.0))
    with pytest.raises(BudgetExhausted, match="is left"):
        begin(file, tmp_path / "b", [Event(1.0, 2.0), Event(1.0, 2.5)])
    drawing.__exit__(None, None, None)
    assert read(file).spent == read(file).filter.cost([Event(1.0, 4.0)])
    drawing, ledger = begin(file, tmp_path / "a", [Event(1.0, 2.0), Event(1.0, 4.0)])
    with pytest.raises(BudgetExhausted, match=r"may spend 0\.062500"):
        charge(drawing, ledger, Event(1.0, 2.0))
    crash(drawing)


def test_a_running_run_cannot_be_settled_by_somebody_else(file, tmp_path):
    drawing, ledger = begin(file, tmp_path / "a")
    with pytest.raises(InputError, match="is active in another process"):
        settle_left(file, ledger.path)
    crash(drawing)
    assert settle_left(file, ledger.path).cost == 0
    with pytest.raises(InputError, match="no run that draws"):
        settle_left(file, tmp_path / "nowhere" / "ledger.jsonl")


def test_a_crash_before_the_reservation_is_taken_up(file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(budget_file, "_write", lambda *_: (_ for _ in ()).throw(InputError("the disk is full")))
        with pytest.raises(InputError, match="full"):
            begin(file, tmp_path / "a")
    assert read(file).spent == 0
    drawing, _ = begin(file, tmp_path / "a")
    assert len(read(file).entries) == 1
    crash(drawing)


def test_nothing_is_charged_before_the_reservation(file, tmp_path):
    drawing = Reservation(file, tmp_path / "ledger.jsonl", HALF, ABOUT)
    with pytest.raises(PrivacyError, match="not reserved"):
        drawing.allow(HALF)


def test_every_changed_or_missing_byte_is_detected(file):
    reserve(file, "run", HALF, ABOUT)
    settle(file, "run", [])
    content = file.read_bytes()
    for place in range(len(content)):
        for changed in (
            content[:place],
            content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
            content[:place] + b" " + content[place:],
        ):
            with pytest.raises(VerificationError):
                parse(file, changed)
    assert parse(file, content).spent == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text["terms"].update(epsilon="9.0"),
        lambda text: text["terms"]["filter"].update(limit="9.000000000000000"),
        lambda text: text["history"].append({**text["history"][0], "run": "other"}),
        lambda text: text["history"].append({**text["history"][0], "what": "settle", "events": to_json(HALF * 2)}),
        lambda text: text["history"].append(text["history"][0]),
        lambda text: text.update(note="more"),
    ],
)
def test_an_edit_that_mends_the_hashes_is_still_held_to_the_rules(file, edit):
    reserve(file, "run", [*HALF, Event(1.0, 5.0)], ABOUT)
    text = json.loads(file.read_text())
    edit(text)
    head = digest(text["terms"])
    for record in text["history"]:
        record["previous"], head = head, digest(record | {"previous": head})
    file.write_bytes(render(text | {"head": head}))
    with pytest.raises(VerificationError, match="damaged or edited"):
        read(file)


def test_an_older_copy_is_told_by_the_run_and_by_a_kept_head(file, tmp_path, capsys):
    older = file.read_bytes()
    drawing, ledger = begin(file, tmp_path / "a")
    charge(drawing, ledger, *HALF)
    crash(drawing)
    head = read(file).history_hash
    assert fedrec(["audit", "budget", "show", str(file), "--head", head]) == 0
    file.write_bytes(older)
    with pytest.raises(VerificationError, match="older copy"):
        begin(file, tmp_path / "a")
    with pytest.raises(VerificationError, match="older copy"):
        settle_left(file, ledger.path)
    assert fedrec(["audit", "budget", "show", str(file), "--head", head]) == 4
    assert "older copy" in capsys.readouterr().err


def _ask(file: Path, which: int, answers) -> None:
    try:
        reserve(file, f"run {which}", [Event(1.0, 2.5)], ABOUT)  # 0.16 of 0.517: three fit
        answers.put(True)
    except BudgetExhausted:
        answers.put(False)


def test_processes_at_once_never_reserve_more_than_there_is(file):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_ask, args=(file, which, answers)) for which in range(8)]
    for process in processes:
        process.start()
    got = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(got) == 3 == len(read(file).entries)


def test_a_lock_that_is_held_is_one_line(file, monkeypatch):
    monkeypatch.setattr(budget_file, "PATIENCE", 0.05)
    with locked(file), pytest.raises(InputError, match="another process holds the budget"):
        reserve(file, "run", HALF, ABOUT)


@pytest.mark.parametrize(("offset", "allowed"), [(-1, False), (0, True), (5, True), (9, True), (10, False)])
def test_the_period_includes_its_first_and_last_day(tmp_path, monkeypatch, offset, allowed):
    first = date(2026, 12, 28)
    rule, file = Filter.make("gdp", 3.0, 1e-5), tmp_path / "b.json"
    create(file, "b", "people", rule, first, first + timedelta(days=9))
    monkeypatch.setattr(budgets, "today", lambda: first + timedelta(days=offset))
    if allowed:
        assert reserve(file, "run", HALF, ABOUT).cost
    else:
        with pytest.raises(BudgetExhausted, match="period"):
            reserve(file, "run", HALF, ABOUT)


def test_a_run_stops_when_the_period_ends(tmp_path, monkeypatch):
    day, file = date(2026, 3, 1), tmp_path / "b.json"
    create(file, "b", "people", Filter.make("gdp", 3.0, 1e-5), end=day)
    monkeypatch.setattr(budgets, "today", lambda: day)
    drawing, ledger = begin(file, tmp_path / "a", HALF * 2)
    charge(drawing, ledger, *HALF)
    monkeypatch.setattr(budgets, "today", lambda: day + timedelta(days=1))
    with pytest.raises(BudgetExhausted, match="ended on 2026-03-01"):
        charge(drawing, ledger, *HALF)
    drawing.__exit__(None, None, None)
    assert read(file).spent == read(file).filter.cost(HALF)


@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        ({"users": 10**6}, PrivacyError, "below 1/users"),
        ({"noise": "seed 1"}, PrivacyError, "same seed"),
        ({"target_epsilon": None}, PrivacyError, "without privacy"),
    ],
)
def test_what_cannot_be_proven_is_refused(file, tmp_path, about, error, message):
    drawing, _ = begin(file, tmp_path / "a", [Event(1.0, 9.0)], ABOUT | {"noise": "seed 1"})
    with pytest.raises(error, match=message):
        begin(file, tmp_path / "b", [Event(1.0, 9.0)], ABOUT | about)
    crash(drawing)


def test_a_run_cannot_come_back_with_another_plan(file):
    reserve(file, "run", HALF, ABOUT)
    with pytest.raises(VerificationError, match="another plan"):
        reserve(file, "run", [Event(1.0, 3.0)], ABOUT)
    with pytest.raises(VerificationError, match="more than it reserved"):
        settle(file, "run", HALF * 2)
    assert read(file).spent == read(file).filter.cost(HALF)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["new", "b.json", "--epsilon", "1", "--delta", "1e-6"], 2),
        (["new", "c.json", "--epsilon", "1", "--delta", "1e-6", "--start", "2027-01-02", "--end", "2027-01-01"], 2),
        (["new", "c.json", "--epsilon", "1", "--delta", "1e-6", "--filter", "pld"], 2),
        (["new", "c.json", "--epsilon", "1", "--delta", "1e-6", "--filter", "renyi", "--who", "us"], 0),
        (["show", "nothing.json"], 2),
        (["show", "b.json", "--json"], 0),
    ],
)
def test_the_commands(file, tmp_path, monkeypatch, capsys, arguments, code):
    monkeypatch.chdir(tmp_path)
    assert fedrec(["audit", "budget", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == (1 if code else 0)
    if "--json" in arguments:
        assert json.loads(captured.out)["fits_epsilon"] == "2.9999"


def test_every_error_is_the_houses_own(tmp_path):
    for content in (b"", b"[]", b"{}\n", b"null", b"\xff", b'{"version": 1}\n'):
        (tmp_path / "b.json").write_bytes(content)
        with pytest.raises(FedrecError):
            read(tmp_path / "b.json")


def test_the_text_of_the_noise_gives_its_seed_back_and_no_other_text_does() -> None:
    for seed in (0, 7, -3, 2**40):
        assert seed_of({"noise": noise_text(seed)}) == seed
    assert all(seed_of({"noise": text}) is None for text in (noise_text(None), "seeded", "seed", "seed 1.5", ""))
    assert seed_of({}) is None
