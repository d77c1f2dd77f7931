"""Every route answers as the OpenAPI document says, and as the method of EdgeClient does."""

import json
from pathlib import Path

import pytest
from fedrec_client import EdgeClient
from fedrec_client.serve.device_service import ABOUT
from fedrec_client.serve.routes import ROUTES
from jsonschema import Draft202012Validator

from fedrec.http.described import described
from fedrec.ondevice.picture import bar_chart
from tests.client.edge.devices import als, device
from tests.client.serve.servers import Served, served

ASKED = {
    "status": {},
    "record": {"item": "item-3", "event": "like", "time": 1.5e9, "weight": 2},
    "record-all": {"events": [{"item": "item-9"}, {"item": "item-3", "event": "rating", "weight": 4.5}]},
    "events": {},
    "recommend": {
        "k": 4,
        "diversity": 0.2,
        "freshness": {"number": "year", "half_life": 5},
        "explore": 0.5,
        "seed": 7,
        "exclude": ["item-1"],
        "having": {"taste": ["taste-1", "taste-2"]},
        "without": {"taste": ["taste-3"]},
        "between": {"year": [None, 1998]},
    },
    "explain": {"item": "item-5"},
    "similar": {"item": "item-3", "k": 2},
    "questionnaire": {"most": 3},
    "answer": {"chosen": {"taste": ["taste-1"]}},
    "answers": {},
    "set-attribute": {"name": "language", "value": "de"},
    "attributes": {},
    "budget": {},
    "opt-out": {},
    "opt-in": {},
    "export": {},
    "undo": {},
    "forget": {"everything": True},
}
"""Route -> a request that uses its fields."""


GENERATE = {"retell", "rerank"}
"""They name a language model, which no caller may choose."""


def schema_of(document: dict, name: str, part: str) -> Draft202012Validator:
    post = document["paths"][f"/v1/{name}"]["post"]
    place = post["requestBody"] if part == "request" else post["responses"][part]
    found = place["content"]["application/json"]["schema"]
    return Draft202012Validator(found | {"components": document["components"]})


def test_every_route_answers_as_the_document_says(empty: Served) -> None:
    status, headers, document = empty.ask("/openapi.json", b"", method="GET", Authorization=None)
    assert status == 200
    assert document == json.loads(json.dumps(described(ROUTES, ABOUT)))
    assert {each.name for each in ROUTES} == {*ASKED, "sync"}, "each route is asked here or below"
    assert set(document["paths"]) == {each.path for each in ROUTES}
    for name, request in ASKED.items():
        schema_of(document, name, "request").validate(request)
        status, headers, answer = empty.ask(f"/v1/{name}", request)
        assert status == 200, answer
        assert headers["cache-control"] == "no-store"
        checker = schema_of(document, name, "200")
        Draft202012Validator.check_schema(checker.schema)
        checker.validate(answer)
        assert not checker.is_valid({"unknown": 1}), "the schema can fail"
    status, _, answer = empty.ask("/v1/explain", {"item": "nothing"})
    assert status == 400
    schema_of(document, "explain", "default").validate(answer)


def test_every_method_of_the_client_has_a_route() -> None:
    """But for those that name files or servers, which no caller may choose, and for opening and closing; what comes
    from friends is files that they hand over."""
    methods = {name for name in dir(EdgeClient) if not name.startswith("_")}
    routed = {each.name.replace("-", "_") for each in ROUTES}
    in_others = {"model": "status", "opted_out": "status", "export_my_data": "export"}
    unrouted = {"open", "close", "path", "install", "participate", "friends", *GENERATE}
    assert methods - routed - in_others.keys() <= unrouted
    assert routed - methods == {"status", "export"}


def test_answers_are_those_of_the_client(empty: Served) -> None:
    client = empty.client
    assert empty.ask("/v1/recommend", {"k": 3})[2]["items"][0]["why"] in ("popular", "diverse")
    made = empty.ask("/v1/record", {"item": "item-3", "event": "like"})[2]
    assert made["number"] == 1
    assert client.events()[0].event.item == "item-3"
    listed = [
        (each["item"], each["score"]) for each in empty.ask("/v1/recommend", {"k": 9, "diversity": 0})[2]["items"]
    ]
    assert listed == [(each.item, each.score) for each in client.recommend(9, diversity=0.0)]
    found = empty.ask("/v1/explain", {"item": listed[0][0]})[2]
    (past,) = found["past"]
    assert past["name"] == "item-3"
    assert past["value"] != 0
    total = sum(each["value"] for each in found["groups"])
    assert total == pytest.approx(found["score"] - found["baseline"])
    same = client.explain(listed[0][0])
    assert (found["words"], found["svg"]) == (same.words, bar_chart(same))
    assert empty.ask("/v1/budget")[2]["epsilon"] == client.budget().epsilon == 0
    assert empty.ask("/v1/opt-out")[2] == {"opted_out": True}
    assert client.opted_out
    assert empty.ask("/v1/opt-in")[2] == {"opted_out": client.opted_out} == {"opted_out": False}
    lines = empty.ask("/v1/export")[2]["lines"]
    assert [(each["record"], each["item"]) for each in lines] == [("event", "item-3")]
    assert empty.ask("/v1/undo")[2] == {"item": "item-3", "event": "like"}
    assert empty.ask("/v1/undo")[2] == {"item": None, "event": None}
    empty.ask("/v1/record-all", {"events": [{"item": "item-1", "time": 5}, {"item": "item-2", "time": 50}]})
    assert empty.ask("/v1/forget", {"before": 10})[2] == {"erased": 1}
    assert [each["item"] for each in empty.ask("/v1/events")[2]["events"]] == ["item-2"]


def test_sync_asks_the_publisher_that_the_device_knows(empty: Served, tmp_path: Path) -> None:
    pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")
    from tests.client.releases.publisher import OPERATOR, Publisher
    from tests.client.releases.web_server import Web

    assert empty.ask("/v1/sync", {"url": "http://127.0.0.1:1"})[0] == 400, "a caller names no address"
    assert empty.ask("/v1/sync")[2]["error"]["code"] == "bad_input", "no publisher is known"
    publisher = Publisher(tmp_path / "publisher")
    publisher.publish(als(1))
    with Web(publisher.folder.path) as web, device(tmp_path / "d") as client, served(client) as server:
        web.start()
        client.sync(web.url, keys=[OPERATOR.public.text])
        publisher.publish(als(2))
        status, _, answer = server.ask("/v1/sync")
        web.shutdown()
        assert (status, answer["changed"], answer["sequence"]) == (200, True, 2)
        schema_of(described(ROUTES, ABOUT), "sync", "200").validate(answer)
        assert server.ask("/v1/status")[2]["model"]["algorithm"] == "als"


@pytest.mark.parametrize(
    ("name", "request_", "part"),
    [
        ("record", b"", "JSON"),
        ("record", b"[]", "object"),
        ("record", b'{"item": "a"', "JSON"),
        ("record", {}, "item"),
        ("record", {"item": 7}, "item"),
        ("record", {"item": ""}, "item"),
        ("record", {"item": "x" * 1025}, "item"),
        ("record", {"item": "a", "event": "stare"}, "'view', 'like'"),
        ("record", b'{"item": "a", "weight": NaN}', "finite"),
        ("record", b'{"item": "a", "time": 1e999}', "finite"),
        ("record", {"item": "a", "time": "now"}, "number"),
        ("record", {"item": "a", "time": 1e12}, "UTC seconds"),
        ("record", b'{"item": "\\ud800"}', "JSON"),
        ("record", {"item": "a\0b"}, "NUL"),
        ("record", {"item": "a", "wieght": 2}, "wieght"),
        ("record", b"[" * 100_000, "recursion"),
        ("record-all", {"events": [{"item": "a"}] * 10_001}, "10000"),
        ("recommend", {"k": 10**9}, "1000"),
        ("recommend", {"having": {"taste": ["tast-1"]}}, "taste-1"),
        ("forget", {}, "forget needs one of"),
        ("similar", {"item": "nothing"}, "no item"),
        ("answer", {"chosen": {"taste": ["tast-1"]}}, "taste-1"),
        ("set-attribute", {"name": "language"}, "value"),
        ("recommend", {"freshness": {"number": "year", "half_life": 0}}, "half_life"),
    ],
)
def test_bad_requests_are_one_line(empty: Served, name: str, request_: object, part: str) -> None:
    status, _, answer = empty.ask(f"/v1/{name}", request_)
    assert (status, answer["error"]["code"]) == (400, "bad_input")
    assert part in answer["error"]["message"]
    assert "\n" not in answer["error"]["message"]
    assert empty.client.events() == []
