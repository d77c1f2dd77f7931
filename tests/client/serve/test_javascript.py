"""The JavaScript client in Node and in headless Chromium, also from pages of other origins."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fedrec_client import serve
from fedrec_client.serve.device_service import device_service
from fedrec_client.serve.routes import ROUTES

from fedrec.http.entrance import Entrance
from fedrec.http.listening import Server, on_loopback
from tests.client.serve.servers import Served
from tests.core.chromium import Chromium, browser

__all__ = ["browser"]

MODULE = Path(serve.__path__[0]) / "fedrec.mjs"
NODE = shutil.which("node")
USE = """(async () => {
  const { Fedrec } = await import("%(url)s/fedrec.mjs");
  const device = new Fedrec({ url: "%(url)s", token: "%(token)s" });
  try {
    await device.record('<b id="x">', { event: "like" });
    return (await device.events()).map(each => each.item).join();
  } catch (error) { return error.code; }
})().catch(error => "blocked: " + error.name)"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_in_node(empty: Served) -> None:
    own = {"FEDREC_URL": f"http://127.0.0.1:{empty.port}", "FEDREC_TOKEN": empty.token, "FEDREC_MODULE": str(MODULE)}
    command = [str(NODE), "--test", str(Path(__file__).with_name("fedrec.test.mjs"))]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert "# pass 3" in done.stdout


def test_it_has_a_method_for_each_route(empty: Served) -> None:
    text = MODULE.read_text(encoding="utf-8")
    assert empty.send(f"GET /fedrec.mjs HTTP/1.1\r\nHost: localhost:{empty.port}\r\n\r\n".encode())[2].decode() == text
    assert {each.name for each in ROUTES} == {
        name for name in map(str, text.split('call("')[1:]) for name in [name.split('"')[0]]
    }
    assert "import " not in text.replace("import {", "", 1), "it needs no other file"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another server on this machine with an empty page: another port is another origin."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text("<!doctype html><title>other</title>")
    (folder / "sandbox.html").write_text("<!doctype html><iframe sandbox='allow-scripts' src='/'></iframe>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_in_a_browser_from_its_own_origin(browser: Chromium, empty: Served) -> None:
    url = f"http://127.0.0.1:{empty.port}"
    browser.open(f"{url}/own.html")
    assert browser.evaluate(USE % {"url": url, "token": empty.token}) == '<b id="x">'
    assert all(empty.token not in address for address in browser.requests)
    assert browser.evaluate(USE % {"url": url, "token": "wrong"}) == "wrong_token"


def test_a_page_of_another_origin_reads_and_changes_nothing(browser: Chromium, empty: Served, site: str) -> None:
    url = f"http://127.0.0.1:{empty.port}"
    browser.open(f"{site}/index.html")
    assert browser.evaluate(USE % {"url": url, "token": empty.token}) == "blocked: TypeError"
    own = json.dumps({"Authorization": f"Bearer {empty.token}", "Content-Type": "application/json"})
    for mode, headers in (("cors", own), ("cors", "{}"), ("no-cors", "{}")):
        more = json.dumps({"method": "POST", "mode": mode, "body": '{"item": "a"}'})
        ask = f"fetch('{url}/v1/record', {{...{more}, headers: {headers}}})"
        assert browser.evaluate(f"{ask}.then(r => r.type, e => e.name)") in ("TypeError", "opaque")
    framed = f"new Promise(done => {{ const f = document.createElement('iframe'); f.src = '{url}/openapi.json';"
    framed += " f.onload = () => done(f.contentDocument === null); document.body.append(f); })"
    assert browser.evaluate(framed) is True
    assert empty.client.events() == []


def test_a_page_of_an_allowed_origin_may_ask(browser: Chromium, empty: Served, site: str) -> None:
    with on_loopback("127.0.0.1", 0) as listening:
        port, up = listening.getsockname()[1], threading.Event()
        service = device_service(empty.client, Entrance.of(port, (site,), empty.token))
        server = Server(service, listening, up.set)
        thread = threading.Thread(target=server.serve_until_stopped)
        thread.start()
        try:
            assert up.wait(20)
            browser.open(f"{site}/index.html")
            found = browser.evaluate(USE % {"url": f"http://127.0.0.1:{port}", "token": empty.token})
        finally:
            server.should_exit = True
            thread.join(20)
    assert found == '<b id="x">'
