"""The whole demo in a browser: a real federation, a person who taps, takes part in a round, and is forgotten."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fedrec_client import EdgeClient
from fedrec_sim.demo.left import answers
from fedrec_sim.demo.world import make_world

from fedrec.cli import run as fedrec
from tests.core.chromium import Chromium, executable


@dataclass
class Running:
    """`fedrec demo` as a process. Attributes: folder: its files; link: to the page."""

    process: "subprocess.Popen[str]"
    folder: Path
    link: str


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    own.pop("FEDREC_DATA", None)
    command = [sys.executable, "-m", "fedrec.cli", "demo", "--hubs", "2", "--keep", str(tmp_path / "demo")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=own) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+/#\S+", process.stderr.readline())
            assert found
            yield Running(process, tmp_path / "demo", found[0])
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def until(browser: Chromium, running: Running, holds: str) -> None:
    end = time.monotonic() + 240
    while not browser.evaluate(holds):
        assert running.process.poll() is None, "the demo ended"
        assert time.monotonic() < end, holds
        time.sleep(0.2)


def text(browser: Chromium, name: str) -> str:
    return str(browser.evaluate(f"document.getElementById('{name}').innerText"))


@pytest.mark.slow
@pytest.mark.skipif(executable() is None, reason="no Chromium on this machine")
def test_a_person_taps_takes_part_and_is_forgotten(running: Running, tmp_path: Path) -> None:
    browser = Chromium(tmp_path / "profile")
    try:
        browser.open(running.link)
        until(browser, running, "document.querySelectorAll('#list .row').length === 8")
        for place in (0, 2):
            browser.evaluate(f"document.querySelectorAll('#list [title=Like]')[{place}].click()")
            until(browser, running, f"document.querySelectorAll('.tap').length === {1 if place == 0 else 2}")
        until(browser, running, "document.body.dataset.phase === 'ready'")
        assert text(browser, "left-big") == "Nothing"
        browser.evaluate("document.getElementById('round').click()")
        until(browser, running, "document.body.dataset.phase === 'round'")
        until(browser, running, "document.body.dataset.phase === 'ready'")
        assert browser.evaluate("document.getElementById('round-fault').hidden"), text(browser, "round-fault")
        until(browser, running, "document.querySelectorAll('#ranks li').length === 5")
        assert text(browser, "left-big") == "One answer"

        device = running.folder / "device"
        (left,) = answers(device)
        assert (left.algorithm, left.trust, left.users, left.gave, left.outcome) == (
            "popularity", "distributed", 401, True, "released"
        )  # fmt: skip
        (run,) = (running.folder / "runs").iterdir()
        assert fedrec(["audit", "verify", str(run), "--trust-run-key"]) == 0
        with EdgeClient.open(device, create=False) as client:
            spent = client.budget()
            assert 0 < spent.epsilon <= spent.run_limit
            assert f"ε {spent.epsilon:.3f}".rstrip("0").rstrip(".") == text(browser, "spent")

            browser.evaluate("document.getElementById('forget').click()")
            browser.evaluate("document.querySelector('#sure .danger').click()")
            until(browser, running, "document.querySelectorAll('.tap').length === 0")
            assert client.events() == []
            assert client.budget().epsilon == spent.epsilon, "what was paid stays paid"
            client.record("item-3", "like")

            browser.evaluate("document.getElementById('round').click()")
            until(browser, running, "document.body.dataset.phase === 'round'")
            until(browser, running, "document.body.dataset.phase === 'ready'")
            (newest, _) = answers(device)
            assert (newest.gave, newest.outcome, newest.why) == (True, "empty", "forgotten")
            until(browser, running, "document.querySelectorAll('#ledger li').length === 2")
            assert "An answer of a person without events, since you forgot on" in text(browser, "ledger")
            assert client.budget().epsilon > spent.epsilon, "it pays as before"
        assert browser.messages == []
        assert len({each.split("/")[2] for each in browser.requests}) == 1, "no other host"
    finally:
        browser.close()


def test_the_titles_are_real_where_data_is_at_hand(data_dir: Path, tmp_path: Path) -> None:
    found = make_world(tmp_path / "world", data_dir)
    assert found.name == "MovieLens 100K"
    assert any(each.title.startswith("Star Wars") and each.year == 1977 for each in found.things)
    assert found.people == 943
    assert json.loads(found.run_items.read_text())["ids"] == [each.item for each in found.things]


def test_the_world_is_the_same_for_all(tmp_path: Path) -> None:
    one, other = make_world(tmp_path / "a", None), make_world(tmp_path / "b", None)
    assert one.run_items.read_text() == other.run_items.read_text()
    assert one.things == other.things
    assert len(one.hubs) == 3
    assert [file.stat().st_mode & 0o077 for file in (one.log.parent,)] == [0]
