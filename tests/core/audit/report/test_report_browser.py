"""The page in headless Chromium: no error, no request, links, sliders, light and dark, a phone, paper, no script."""

import re
from pathlib import Path

import pytest

from fedrec.audit.report.html import page
from fedrec.audit.statement.received import receive
from tests.core.audit.audited_run import HOSTILE, audited_run
from tests.core.chromium import browser, executable

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    run = audited_run(tmp_path_factory.mktemp("run"), name=HOSTILE, begin={"dataset": HOSTILE}, epsilon=2.0)
    file = run / "report.html"
    file.write_text(page(receive(run)), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_renders_without_error_or_request(browser, address, width: int, dark: bool) -> None:
    browser.open(address, width=width, dark=dark)
    assert browser.messages == []
    assert browser.requests == [address]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 28)" if dark else "rgb(251, 250, 246)")
    assert browser.small_texts() == 0, "text smaller than 12 px"


def test_a_planted_fault_is_seen(browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'unsafe-inline\'">'
    file.write_text(f"{policy}<img src='http://127.0.0.1:9/x.png'><script>throw new Error('planted')</script>")
    browser.open(file.as_uri())
    assert any("planted" in message for message in browser.messages)
    assert "http://127.0.0.1:9/x.png" in browser.requests


def test_the_policy_stops_what_slips_in(browser, address, tmp_path: Path) -> None:
    file = tmp_path / "tampered.html"
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    planted = "<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x.png'>"
    file.write_text(text.replace("</main>", planted + "</main>"), encoding="utf-8")
    browser.open(file.as_uri())
    assert browser.evaluate("document.title") != "run"
    assert len(browser.messages) >= 2, "both are refused, and that is said"


def test_links_lead_somewhere_and_keys_reach_the_sliders(browser, address) -> None:
    browser.open(address)
    for target in browser.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))"):
        browser.evaluate(f"document.querySelector('nav a[href=\"{target}\"]').click()")
        assert browser.evaluate("location.hash") == target
        top = browser.evaluate(f"document.querySelector('{target}').getBoundingClientRect().top")
        assert top < 900
    before = browser.evaluate("document.getElementById('tpr').textContent")
    browser.evaluate("document.getElementById('alarm').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    after = browser.evaluate("document.getElementById('tpr').textContent")
    assert share(before) < share(after)
    assert browser.evaluate("document.getElementById('alarm').getAttribute('aria-valuetext')").endswith("false alarms")


def test_script_and_python_agree(browser, address) -> None:
    browser.open(address)
    said = browser.evaluate("document.getElementById('meaning').innerText")
    browser.open(address, script=False)
    assert browser.evaluate("document.getElementById('meaning').innerText.length") > 300
    for name in ("fpr", "tpr", "before", "after", "right", "wrong"):
        assert browser.evaluate(f"document.getElementById('{name}').textContent") in said
    assert browser.evaluate("document.getElementById('alarm').offsetParent === null"), "no slider that does nothing"


def test_it_prints(browser, address, tmp_path: Path) -> None:
    browser.open(address)
    browser.pdf(tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
    browser.send("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def share(text: str) -> float:
    return float(text.replace("\u00a0", "").removesuffix("%"))
