"""A device's own ledger says when its answer was that of a person without events, and why; a server cannot see it."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.consent.device_ledger import FILE
from fedrec_client.consent.files import POLICY
from fedrec_client.consent.policy import DataPolicy
from fedrec_client.consent.report import Answered, spending, verified
from fedrec_client.participation.store_mark import DAY, STATE, StoreMark, mark_of
from fedrec_client.store import Store

from fedrec.cli import run as fedrec
from tests.client.participation.devices_over_nodes import FEW, Devices, person
from tests.client.participation.test_devices_over_nodes import LOCAL

RELEASED = {"n", "prev", "time", "kind", "run", "round", "question", "outcome"}


def opened(folder: Path) -> Store:
    return Store.open(folder / "events.store", KeyFile(folder / "events.key"))


def outcome(folder: Path) -> dict[str, Any]:
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    (found,) = [line for line in lines if line["kind"] == "outcome"]
    return dict(found)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[EdgeClient]:
    folder = tmp_path / "device"
    with EdgeClient.open(folder, KeyFile(folder / "events.key")) as client:
        client.record("1", "like")
        yield client


def stay(client: EdgeClient, now: float | None = None) -> None:
    StoreMark(client.path, client._store).renew(time.time() if now is None else now)


def test_the_ledger_of_each_device_has_what_its_answer_was_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    devices = Devices(tmp_path / "nodes")
    forgetful, out, strange, given = (devices.device(*place) for place in ((2, 0), (0, 0), (0, 1), (1, 0)))
    with EdgeClient.open(forgetful, KeyFile(forgetful / "events.key")) as client:
        client.forget(everything=True)
        client.record("1", "like")  # what is recorded in the period does not enter either
    (out / POLICY).unlink()
    person(out, [], replace(FEW, data=DataPolicy(opted_out=True)))
    with opened(strange) as store:
        store.forget(everything=True)
        mark_of(strange).unlink()
        store.append(Event("no item of the run", "like", 1.0))
    devices.deploy(tmp_path / "run", *LOCAL)

    empty = outcome(forgetful)
    assert (empty["outcome"], empty["why"]) == ("empty", "forgotten")
    assert time.time() - 600 < empty["since"] <= time.time()
    assert empty["until"] in (empty["since"] + DAY, empty["since"] + DAY + 1)
    assert (outcome(out)["outcome"], outcome(out)["why"]) == ("zero", "opted out")
    assert (outcome(strange)["outcome"], outcome(strange)["why"]) == ("empty", "no event")
    assert outcome(given)["outcome"] == "released"
    assert outcome(given).keys() == RELEASED, "a line of earlier versions, which these can read"
    for each in (forgetful, out, strange, given):
        (charge,) = [json.loads(line) for line in (each / FILE).read_text().splitlines() if '"charge"' in line]
        assert charge["paid"] == "all", "all pay alike"

    found = spending(forgetful / FILE, forgetful / POLICY)
    assert found.runs[0].answers == (Answered("empty", "forgotten", 1),)
    assert found.without_events is not None
    assert asdict(found.without_events) == {name: empty[name] for name in ("why", "since", "until")}
    assert "Answers: 1 without events (forgotten)." in verified(forgetful / FILE)
    assert "Answers: 1 zero (opted out)." in verified(out / FILE)
    assert spending(given / FILE, given / POLICY).without_events is None
    capsys.readouterr()
    assert fedrec(["client", "budget", str(forgetful)]) == 0
    text = capsys.readouterr().out
    assert "Answers are those of a person without events until " in text
    assert ": forgotten)." in text
    assert text.rstrip().endswith("  1 without events (forgotten)")


def test_the_budget_shows_the_period_from_the_moment_of_forgetting(device: EdgeClient) -> None:
    assert device.budget().without_events is None
    device.forget("1")
    assert device.budget().without_events is None, "nothing was given before"
    device.record("1", "like")
    stay(device)
    for how in ({"item": "1"}, {"everything": True}):
        stay(device, time.time())
        device.forget(**how)
        period = device.budget().without_events
        assert period is not None
        assert period.why == "forgotten"
        assert period.since == int(time.time()) or period.since == int(time.time()) - 1


def test_a_copy_of_before_forgetting_is_noticed_although_it_is_newer_than_the_last_stay(
    device: EdgeClient, tmp_path: Path
) -> None:
    stay(device)
    copy = tmp_path / "copy"
    device.close()
    shutil.copy(device.path / "events.store", copy)
    for how in ({"item": "1"}, {"everything": True}):
        shutil.copy(copy, device.path / "events.store")
        with EdgeClient.open(device.path) as again:
            StoreMark(again.path, again._store).renew(0.0)
            shutil.copy(again.path / "events.store", copy)
            again.forget(**how)
        shutil.copy(copy, device.path / "events.store")
        with opened(device.path) as store:
            found = StoreMark(device.path, store).trust_period(time.time() + 2 * DAY, 1.0)
        assert found is not None
        assert found.why == "restored"


@pytest.mark.parametrize(("what", "why"), [("mark", "no mark"), ("store", "new store"), ("older", "trust")])
def test_each_cause_has_its_word(what: str, why: str, device: EdgeClient) -> None:
    stay(device)
    if what == "mark":
        mark_of(device.path).unlink()
    elif what == "store":
        device._store.forget(everything=True)
    else:  # a trust period that an earlier version began
        inside = json.loads(device._store.state(STATE) or b"")
        device._store.set_state(STATE, json.dumps({"mark": inside["mark"], "since": time.time()}).encode())
    period = device.budget().without_events
    assert period is not None
    assert period.why == why


def test_no_question_meets_a_part_of_the_events(device: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, or an error, in the middle of forgetting leaves a device in its trust period."""
    stay(device)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "forget", dies)
    monkeypatch.setattr("fedrec_client.edge.client.clock.time", iter([1.8e9]).__next__)  # the second call dies, too
    with pytest.raises(StopIteration):
        device.forget("1")
    assert StoreMark(device.path, device._store).trust_period(1.8e9, 1.0) is not None
