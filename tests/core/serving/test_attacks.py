"""What a hostile request gets of a served model, and what of a history is left anywhere: nothing."""

import asyncio
import base64
import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedrec.errors import InputError
from fedrec.http.service import Limits
from fedrec.ondevice.history import State
from fedrec.serving.batching import Batches
from fedrec.serving.loaded import Loaded
from fedrec.serving.messages import Person
from fedrec.serving.routes import Serving
from tests.client.edge.devices import IDS, als, released
from tests.client.serve.servers import Served
from tests.core.serving.servers import serving_of

SECRET = "very-private-item"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Serving]]:
    with serving_of(released(als(), tmp_path_factory.mktemp("served") / "run")) as found:
        yield found


def metrics(server: Served) -> str:
    return server.ask("/metrics", b"", method="GET")[2].decode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"history":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"history": ["' + b"a" * 300 + b'"]}',
        b'{"history": [""]}',
        b'{"history": [1]}',
        b'{"history": "item-3"}',
        b'{"history": {"0": "item-3"}}',
        b'{"history": ["item-3"], "ratings": [NaN]}',
        b'{"history": ["item-3"], "ratings": [1e999]}',
        b'{"history": ["item-3"], "ratings": [Infinity]}',
        b'{"history": ["item-3"], "ratings": []}',
        b'{"history": ["item-3"], "times": [1, 2]}',
        b'{"k": 0}',
        b'{"k": -1}',
        b'{"k": 1001}',
        b'{"k": 1.5}',
        b'{"k": true}',
        b'{"k": 99999999999999999999999999}',
        b'{"diversity": 1}',
        b'{"diversity": NaN}',
        b'{"other": 1}',
        b'{"state": "x"}',
        b'{"state": ""}',
        b'{"state": "\xf0\x9f\x92\xa5"}',
        b'{"history": [' + b",".join([b'"item-3"'] * 2001) + b"]}",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_a_bad_request_is_one_line_and_nobody_elses(both: tuple[Served, Serving], body: bytes) -> None:
    server, _ = both
    status, headers, answer = server.ask("/v1/recommend", body)
    assert (status, headers["content-type"]) == (400, "application/json")
    assert set(answer["error"]) == {"code", "message"}
    assert "\n" not in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 400
    assert server.ask("/v1/recommend", {"history": ["item-3"]})[0] == 200


def test_a_million_ids_are_refused_unread(both: tuple[Served, Serving]) -> None:
    server, _ = both
    body = b'{"history": [' + b",".join([b'"a"'] * 1_000_000) + b"]}"
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost:{server.port}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    status, _, answer = server.send(head.encode())  # its length is enough
    assert (status, b"too_large" in answer) == (413, True)


def test_unknown_and_double_ids_count_and_do_not_fail(both: tuple[Served, Serving]) -> None:
    server, serving = both
    given = {"history": ["item-3", SECRET, "item-3", "  item-3 "], "exclude": ["no"], "dislikes": ["neither"], "k": 9}
    status, _, answer = server.ask("/v1/recommend", given)
    assert (status, answer["unknown"]) == (200, 3)
    alone = serving.model.lists([Person(history=("item-3",) * 3, k=9)])[0]
    assert [each["score"] for each in answer["items"]] == [each.score for each in alone.items]  # type: ignore[union-attr]
    nobody = server.ask("/v1/recommend", {"history": [SECRET]})[2]
    assert {each["why"] for each in nobody["items"]} <= {"popular", "diverse"}


def test_a_state_that_was_changed_cut_or_made_elsewhere_is_refused(
    both: tuple[Served, Serving], tmp_path: Path
) -> None:
    server, _ = both
    token = server.ask("/v1/recommend", {"history": ["item-3"], "keep_state": True})[2]["state"]
    sealed = base64.urlsafe_b64decode(token)
    assert SECRET.encode() not in sealed
    assert b"item" not in sealed
    made = [sealed[:-1], sealed + b"\0", sealed[:30], b"", sealed[:8] + bytes(len(sealed) - 8)]
    made += [
        sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in (9, 20, 40, len(sealed) - 1)
    ]
    texts = [base64.urlsafe_b64encode(each).decode() for each in made] + ["=", "a", "-" * 200, token + "!"]
    elsewhere = Loaded.of(released(als(), tmp_path / "run"))
    state = elsewhere.lists([Person(history=("item-3",), keep_state=True)])[0].state  # type: ignore[union-attr]
    assert isinstance(state, str)
    for text in [*texts, state]:
        status, _, answer = server.ask("/v1/recommend", {"state": text})
        assert (status, answer["error"]["code"]) in {(400, "bad_state"), (409, "stale_state")}, text
    assert server.ask("/v1/recommend", {"state": token})[0] == 200
    status, _, answer = server.ask("/v1/recommend", {"state": token, "dislikes": ["item-4"]})
    assert status == 400
    key = bytes(32)
    shared = Loaded.of(released(als(), tmp_path / "again"), key)
    token = shared.lists([Person(history=("item-3",), keep_state=True)])[0].state  # type: ignore[union-attr]
    again = Loaded.of(tmp_path / "again", key)
    assert again.lists([Person(state=token)]) == shared.lists([Person(history=("item-3",))]), "two servers, one key"


def test_metrics_and_logs_hold_nothing_of_a_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = released(als(), tmp_path / "run")
    with caplog.at_level(0), serving_of(run) as (server, _):
        for path, body in (
            ("/v1/recommend", {"history": ["item-3", SECRET]}),
            ("/v1/recommend", {SECRET: 1}),
            (f"/v1/{SECRET}", {}),
            (f"/v1/recommend?history={SECRET}", {"history": ["item-3"]}),
        ):
            server.ask(path, body)
        for number in range(50):  # a caller makes no labels
            server.ask(f"/v1/{SECRET}-{number}", {}, method="POST" if number % 2 else "GET")
        server.send(f"{SECRET}\r\n\r\n".encode())
        text = metrics(server)
    printed = "".join(capfd.readouterr()) + caplog.text
    for found in (text, printed):
        assert SECRET not in found
        assert "item-" not in found
    series = [line for line in text.splitlines() if line.startswith("fedrec_requests_total")]
    labels = {re.search(r'route="([^"]+)"', line)[1] for line in series}  # type: ignore[index]
    assert labels <= {"recommend", "other", "health", "metrics", "model", "recommend-many"}
    assert len(series) < 12


def test_an_internal_error_shows_and_prints_no_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), serving_of(released(als(), tmp_path / "run")) as (server, serving):

        def broken(history: object) -> State:
            raise ValueError(f"about {history} {SECRET}")

        monkeypatch.setattr(serving.model.model, "fit", broken)
        status, _, answer = server.ask("/v1/recommend", {"history": ["item-3"]})
    assert (status, answer["error"]["code"]) == (500, "internal")
    printed = "".join(capfd.readouterr()) + caplog.text
    assert "ValueError in test_attacks.py line" in printed
    for text in (printed, answer["error"]["message"]):
        assert SECRET not in text
        assert "History" not in text


def test_numbers_that_overflow_fail_alone(tmp_path: Path) -> None:
    loaded = Loaded.of(released(als(), tmp_path / "run"))
    good, found = Person(history=("item-3",)), loaded.model.fit

    def huge(history: object) -> State:
        state = found(history)  # type: ignore[arg-type]
        if len(state.history) == 2:
            state.sums["vector"] = state.sums["vector"] * 1e300
        return state

    loaded.model.fit = huge  # type: ignore[method-assign, assignment]
    lists = loaded.lists([good, Person(history=("item-3", "item-4")), good])
    assert isinstance(lists[1], InputError)
    assert lists[0] == lists[2] == loaded.lists([good])[0]


def test_who_waits_no_more_is_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded.of(released(als(), tmp_path / "run"))
    go, computed, lists = threading.Event(), [], loaded.lists

    def slow(model: Loaded, people: list[Person]) -> list:
        go.wait(20)
        computed.extend(people)
        return lists(people)

    monkeypatch.setattr(Loaded, "lists", slow)

    async def ask() -> None:
        batches = Batches(people=1)
        first = asyncio.create_task(batches.lists(loaded, [Person(history=("item-1",))]))
        gone = asyncio.create_task(batches.lists(loaded, [Person(history=("item-2",))]))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.sleep(0.05)
        go.set()
        await first

    asyncio.run(ask())
    assert [each.history for each in computed] == [("item-1",)]


def test_floods_and_hanging_lists_are_refused_and_health_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, lists = threading.Event(), Loaded.lists

    def slow(model: Loaded, people: list[Person]) -> list:
        go.wait(20)
        return lists(model, people)

    with serving_of(released(als(), tmp_path / "run"), Limits(running=3, arriving=0.3)) as (server, _):
        monkeypatch.setattr(Loaded, "lists", slow)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.ask, "/v1/recommend", {"history": [IDS[n]]}) for n in range(6)]
            end = time.monotonic() + 10
            while sum(each.done() for each in asked) < 3 and time.monotonic() < end:
                time.sleep(0.01)
            assert server.ask("/v1/recommend", b'{"hist', Content_Length="900")[2]["error"]["code"] == "slow_body"
            go.set()
            found = sorted(each.result()[0] for each in asked)
        assert found == [200, 200, 200, 503, 503, 503]
        assert server.ask("/health", b"", method="GET")[2] == {"status": "ok"}
