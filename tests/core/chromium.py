"""Headless Chromium over its DevTools pipe: open a page, evaluate scripts in it, take screenshots. No driver is needed.

Protocol: JSON messages ended by a zero byte, read by the browser from descriptor 3 and written to 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
SECONDS = 60.0


def executable() -> str | None:
    """Return the path of the browser, None if there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def missing() -> str | None:
    """Return a line for the end of a test run that found no browser, None where there is one."""
    if executable() is not None:
        return None
    return f"The browser tests were skipped: no Chromium on this machine ({', '.join(NAMES)})."


class Chromium:
    """One browser with one tab.

    Attributes:
        messages: lines of the console, with exceptions.
        requests: every requested URL.
    """

    def __init__(self, profile: Path) -> None:
        to_browser, ours = os.pipe()
        self._from, from_browser = os.pipe()
        os.set_inheritable(to_browser, True)
        program = 'exec 3<&0 4>&1 0</dev/null 1>/dev/null; exec "$@"'  # the pipe is its input and output
        self._process = subprocess.Popen(
            ["sh", "-c", program, "sh", str(executable()), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=to_browser,
            stdout=from_browser,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._to = ours
        self._buffer, self._last, self._events = b"", 0, []
        self.messages: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False, script: bool = True) -> None:
        """Load a page anew and wait until it is loaded; `messages` and `requests` begin anew too."""
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.send("Emulation.setEmulatedMedia", media="", features=features)
        self.messages, self.requests, self._events = [], [], []
        self.send("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")
        if script:
            self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, JSON-able."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of the visible part."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Write the page as printed."""
        printed = self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one DevTools command to the tab, and return its result."""
        return self._call(method, session=self._session, **parameters)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)

    def _call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _wait_for(self, event: str) -> None:
        while event not in self._events:
            self._read()

    def _read(self) -> dict[str, Any]:
        limit = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, limit - time.monotonic()))
            part = os.read(self._from, 1 << 16) if ready else b""
            assert part, "the browser does not answer"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        self._events.append(event)
        if event == "Runtime.consoleAPICalled":
            self.messages.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif event == "Runtime.exceptionThrown":
            self.messages.append(json.dumps(told["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.messages.append(told["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def small_texts(self, pixels: int = 12) -> int:
        """Return how many elements of the page's `main` show text in a smaller font."""
        return int(
            self.evaluate(
                "[...document.querySelectorAll('main *')].filter(n => n.childNodes.length && n.innerText && "
                f"n.getBoundingClientRect().width && parseFloat(getComputedStyle(n).fontSize) < {pixels}).length"
            )
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser for the tests of a module, which are skipped where there is none."""
    if executable() is None:
        pytest.skip("no Chromium on this machine")
    opened = Chromium(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
