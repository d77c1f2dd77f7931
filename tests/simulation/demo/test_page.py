"""The page of the demo over a device with a small model: the way in, titles, ledger, dark and narrow screens."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedrec_client.consent.answering import Asked, WithoutEvents
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import policy_of
from fedrec_client.participation.store_mark import StoreMark
from fedrec_client.serve.device_service import FILE as TOKEN
from fedrec_client.serve.routes import ROUTES
from fedrec_sim.demo.demo import Demo
from fedrec_sim.demo.left import answers
from fedrec_sim.demo.routes import page, routes
from fedrec_sim.demo.world import Thing, World

from fedrec.errors import InputError
from fedrec.http.token_file import token_in
from tests.client.consent.runs import run
from tests.client.edge.devices import IDS, features, kernel_rank, released
from tests.client.serve.servers import Served, served
from tests.core.chromium import Chromium, browser

__all__ = ["browser"]

HOSTILE = """"></b><img src=x onerror="document.title='run'"><script>document.title='run'</script> & 'quotes'"""
NOBODY = Path("/nonexistent")


@dataclass
class Shown:
    """A demo without a federation, as if it was ready. Attributes: links: the codes that the terminal showed."""

    demo: Demo
    server: Served
    links: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"

    def ask(self, name: str, given: Any = b"{}", **headers: str | None) -> tuple[int, Any]:
        status, _, answer = self.server.ask(f"/v1/{name}", given, **headers)
        return status, answer


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("demo")
    things = tuple(
        Thing(item, HOSTILE if n < 4 else f"Film {n}", (f"Kind {n % 5}",), 1990 + n) for n, item in enumerate(IDS)
    )
    links: list[str] = []
    world = World("a test", 40, things, *([NOBODY] * 4), (NOBODY, NOBODY))
    demo = Demo(folder / "demo", world, links.append)
    demo.token = token_in(demo.client.path / TOKEN)
    demo.client.install(released(kernel_rank(), folder / "run"), public=features(folder / "public.safetensors"))
    demo._note(model=True)
    demo._ended("ready")
    with served(demo.client, routes=(*ROUTES, *routes(demo)), files=page()) as server:
        yield Shown(demo, server, links)
    demo.client.close()


def until(browser: Chromium, holds: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not browser.evaluate(holds):
        assert time.monotonic() < end, f"not within {seconds:g} s: {holds}"
        time.sleep(0.05)


def entered(browser: Chromium, shown: Shown, **how: Any) -> None:
    """Open the page by a new code, and wait for its list."""
    shown.demo.new_code()
    browser.open("about:blank")
    browser.open(f"{shown.url}#{shown.links[-1]}", **how)
    until(browser, "document.querySelectorAll('#list .row').length === 8")


def charge(shown: Shown, name: str, what: str = "released", because: WithoutEvents | None = None) -> None:
    """Pay for an answer as a node of the device does."""
    folder = shown.demo.client.path
    ledger = DeviceLedger(folder / FILE, policy_of(folder))
    ledger.open()
    asked = Asked(0, "q", np.array([7]), np.array([0]), public=False)
    ledger.charge(run(name, 1, noise=6.0, epsilon=1.0), asked)
    ledger.outcome(name, 0, "q", what, because)


def test_a_code_opens_the_page_once(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.demo.new_code()
    code = shown.links[-1]
    for wrong in ("", "x", code[:-1], f"{code}x", shown.server.token, "ü"):
        assert shown.ask("demo-enter", {"code": wrong}, Authorization=None)[0] == 400
    assert shown.ask("demo-enter", {"code": code}, Authorization=None, Origin="https://evil.example")[0] == 403
    assert shown.ask("demo-enter", {"code": code}, Authorization=None) == (200, {"token": shown.server.token})
    assert shown.ask("demo-enter", {"code": code}, Authorization=None)[0] == 400
    assert shown.links[-1] != code, "the terminal shows the next link"
    monkeypatch.setattr("fedrec_sim.demo.demo.CODE_SECONDS", -1)
    shown.demo.new_code()
    assert shown.ask("demo-enter", {"code": shown.links[-1]}, Authorization=None)[0] == 400


def test_other_routes_need_the_token_and_files_hold_nothing_personal(shown: Shown) -> None:
    shown.demo.client.record("item-3", "like")
    for name in ("demo-items", "demo-state", "demo-left", "demo-round"):
        assert shown.ask(name, Authorization=None)[0] == 401
    for path in page():
        status, headers, body = shown.server.ask(path, b"", method="GET", Authorization=None)
        assert (status, headers["cache-control"]) == (200, "no-store")
        assert shown.server.token.encode() not in body
        assert b"http:" not in body.replace(b"http://www.w3.org/2000/svg", b""), "no other host"
    assert "default-src 'self'" in shown.server.ask("/", b"", method="GET")[1]["content-security-policy"]
    shown.demo.client.forget(everything=True)


def test_a_round_starts_only_when_the_federation_is_ready(shown: Shown) -> None:
    assert shown.ask("demo-round")[1]["phase"] == "round"
    assert "not ready" in shown.ask("demo-round")[1]["error"]["message"]
    assert shown.demo._orders.get(timeout=5) is True
    shown.demo._ended("ready")


def test_taps_change_the_list_and_reasons_follow(shown: Shown, browser: Chromium) -> None:
    shown.demo.client.forget(everything=True)
    entered(browser, shown)
    assert "Nothing is known of you" in browser.evaluate("document.getElementById('list-note').textContent")
    assert browser.evaluate("document.getElementById('left-big').textContent") == "Nothing"
    browser.evaluate("(each => { each.focus(); each.click(); })(document.querySelector('.label'))")
    until(browser, "document.querySelector('.label[aria-pressed=true]') !== null")
    assert browser.evaluate("document.activeElement.ariaPressed") == "true", "the keyboard stays where it was"
    picked = browser.evaluate("document.querySelector('.label[aria-pressed=true]').textContent")
    assert shown.demo.client.answers == {"taste": [picked]}
    browser.evaluate("document.querySelector('.label').click()")
    until(browser, "document.querySelector('.label[aria-pressed=true]') === null")
    assert shown.demo.client.answers == {}
    items = "[...document.querySelectorAll('#list .row')].map(each => each.dataset.item).join()"
    before = browser.evaluate(items)
    browser.evaluate("document.querySelector('#list [title=Like]').click()")
    until(browser, f"{items} !== {json.dumps(before)} && document.querySelector('#list button.why') !== null")
    liked = before.split(",")[0]
    assert [each.event.item for each in shown.demo.client.events()] == [liked]
    assert browser.evaluate(items).split(",") == [each.item for each in shown.demo.client.recommend(8)]
    title = next(each.title for each in shown.demo.world.things if each.item == liked)
    assert title in browser.evaluate("document.querySelector('#list button.why').textContent")
    browser.evaluate("document.querySelector('#list button.why').click()")
    assert browser.evaluate("document.querySelectorAll('.reasons .bar').length") >= 1
    browser.evaluate("document.querySelector('#list [title=\"Not for me\"]').click()")
    until(browser, "document.querySelectorAll('.tap.low').length === 1")
    browser.evaluate("document.getElementById('undo').click()")
    until(browser, "document.querySelectorAll('.tap').length === 1")
    browser.evaluate("document.getElementById('forget').click()")
    browser.evaluate("document.querySelector('#sure .danger').click()")
    until(browser, "document.querySelectorAll('.tap').length === 0")
    assert shown.demo.client.events() == []
    assert browser.messages == []


def test_hostile_titles_are_text(shown: Shown, browser: Chromium) -> None:
    entered(browser, shown)
    for item in IDS[:4]:
        shown.demo.client.record(item, "like")
    entered(browser, shown)
    assert HOSTILE in browser.evaluate("document.getElementById('taps').textContent")
    assert HOSTILE in browser.evaluate("document.getElementById('shelf').textContent")
    assert browser.evaluate("document.title") == "fedrec: your device"
    assert browser.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert {each.split("/")[2] for each in browser.requests} == {f"127.0.0.1:{shown.server.port}"}
    assert all(shown.server.token not in each for each in browser.requests)
    assert browser.evaluate("location.href") == shown.url, "the code left the address"
    assert browser.messages == []


def test_the_ledger_is_what_the_page_shows(shown: Shown, browser: Chromium) -> None:
    entered(browser, shown)
    assert answers(shown.demo.client.path) == ()
    charge(shown, "a1b2c3d4e5")
    shown.demo._note()
    until(browser, "document.querySelectorAll('#ledger li').length === 1")
    (found,) = answers(shown.demo.client.path)
    assert (found.run, found.round, found.users, found.gave, found.outcome) == ("a1b2c3d4e5", 1, 1000, True, "released")
    text = browser.evaluate("document.getElementById('ledger').textContent")
    assert f"ε {found.epsilon:.3f}".rstrip("0") in text
    assert "999 other people" in text
    spent = shown.demo.client.budget().epsilon
    assert f"ε {spent:.3f}".rstrip("0") == browser.evaluate("document.getElementById('spent').textContent")
    assert float(browser.evaluate("document.getElementById('meter').getAttribute('aria-valuenow')")) == spent
    browser.evaluate("document.getElementById('zeros').click()")
    end = time.monotonic() + 10
    while not shown.demo.client.opted_out and time.monotonic() < end:
        time.sleep(0.05)
    assert shown.demo.client.opted_out
    charge(shown, "f6f7f8", "zero", WithoutEvents("opted out"))
    assert answers(shown.demo.client.path)[0].gave is False
    shown.demo._note()
    until(browser, "document.querySelectorAll('#ledger li').length === 2")
    newest = "document.querySelector('#ledger li').textContent"
    assert "Only a zero was in the sum, as you chose, with" in browser.evaluate(newest)
    shown.demo.client.opt_in()


def test_the_page_says_when_an_answer_was_that_of_a_person_without_events(shown: Shown, browser: Chromium) -> None:
    entered(browser, shown)
    assert browser.evaluate("document.getElementById('period-note').hidden")
    client = shown.demo.client
    client.record(IDS[0], "like")
    StoreMark(client.path, client._store).renew(time.time())
    browser.evaluate("document.getElementById('forget').click()")
    browser.evaluate("document.querySelector('#sure .danger').click()")
    until(browser, "!document.getElementById('period-note').hidden")
    period = client.budget().without_events
    assert period is not None
    assert period.until is not None
    note = browser.evaluate("document.getElementById('period-note').textContent")
    assert "answers as a person without events, since you forgot on" in note
    charge(shown, "0a0b0c", "empty", period)
    shown.demo._note()
    newest = "document.querySelector('#ledger li').textContent"
    until(browser, "document.querySelector('#ledger li')?.textContent.includes('0a0b0c') === true")
    assert "An answer of a person without events, since you forgot on" in browser.evaluate(newest)
    assert "in the sum" not in browser.evaluate(newest)
    day = datetime.fromtimestamp(period.until).day
    assert f"so are all until {day} " in browser.evaluate(newest)
    assert browser.messages == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_dark_light_and_narrow_screens(shown: Shown, browser: Chromium, width: int, dark: bool) -> None:
    entered(browser, shown, width=width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 21, 24)" if dark else "rgb(246, 244, 238)")
    assert browser.small_texts() == 0, "text smaller than 12 px"
    nameless = "[...document.querySelectorAll('button, input')].filter(n => "
    nameless += "!n.textContent.trim() && !n.ariaLabel && !n.labels?.length)"
    assert browser.evaluate(f"{nameless}.length") == 0, "a control without a name"
    assert browser.messages == []


def test_without_a_code_the_page_shows_no_device(shown: Shown, browser: Chromium) -> None:
    browser.open(shown.url)
    browser.evaluate("sessionStorage.clear()")
    browser.open("about:blank")
    browser.open(f"{shown.url}#wrong")
    until(browser, "!document.getElementById('gate').hidden")
    assert browser.evaluate("document.getElementById('main').hidden")


def test_a_failed_round_is_one_line(shown: Shown) -> None:
    class Gone:
        hubs = 2

        def wait(self, *_: object) -> None:
            raise InputError("nobody is there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedrec_sim.demo.demo.taking_part", lambda *_: __import__("contextlib").nullcontext())
        shown.demo._round(Gone())  # type: ignore[arg-type]
    view = shown.demo.view()
    assert (view.phase, view.fault, view.rounds) == ("ready", "nobody is there", 0)
