"""Lists over HTTP: those of the device's model, alone and in a batch, from a history and from a state."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from fedrec.algorithms.tower_model import SolverConfig, TowerModel
from fedrec.http.described import described
from fedrec.model import ReleasedModel
from fedrec.ondevice.base import Asked
from fedrec.ondevice.history import History
from fedrec.ondevice.lists import Wishes, recommend
from fedrec.serving.batching import Batches
from fedrec.serving.loaded import Loaded
from fedrec.serving.messages import Listed, Person
from fedrec.serving.reloading import Reloading
from fedrec.serving.routes import ABOUT, ROUTES, Serving
from fedrec.towers.people import PeopleConfig, PeopleNetwork
from tests.client.edge.devices import IDS, als, kernel_rank, of_ratings, released
from tests.client.serve.servers import Served
from tests.core.serving.servers import serving_of

HISTORIES = [["item-3", "item-9"], [], ["item-1"] * 3, [f"item-{n}" for n in range(20)], ["item-9", "item-3"]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Serving]]:
    with serving_of(released(als(), tmp_path_factory.mktemp("served") / "run")) as found:
        yield found


def device_list(model: Loaded, history: list[str], **wishes: object) -> list[tuple[str, float]]:
    items = np.array([IDS.index(item) for item in history], np.int64)
    entries = recommend(model.model, model.model.fit(History(items)), Wishes(**wishes))  # type: ignore[arg-type]
    return [(IDS[each.item], each.score) for each in entries]


def test_a_list_is_that_of_the_device(both: tuple[Served, Serving]) -> None:
    server, serving = both
    for history in HISTORIES:
        status, _, answer = server.ask("/v1/recommend", {"history": history, "k": 4})
        assert status == 200
        assert [(each["item"], each["score"]) for each in answer["items"]] == device_list(serving.model, history, k=4)
    first = answer["items"][0]["item"]
    answer = server.ask("/v1/recommend", {"history": HISTORIES[-1], "exclude": [first], "dislikes": ["item-5"]})[2]
    assert not {first, "item-5"} & {each["item"] for each in answer["items"]}
    seen = server.ask("/v1/recommend", {"history": ["item-3"], "seen": True, "k": 1000})[2]["items"]
    assert "item-3" in {each["item"] for each in seen}


def test_the_list_of_one_in_a_batch_is_that_of_one_alone(both: tuple[Served, Serving]) -> None:
    server, _ = both
    people = [{"history": history, "k": 3 + place} for place, history in enumerate(HISTORIES)]
    many = server.ask("/v1/recommend-many", {"people": people})[2]["lists"]
    assert many == [server.ask("/v1/recommend", person)[2] for person in people]


def toys(folder: Path) -> dict[str, Loaded]:
    models: dict[str, ReleasedModel] = {"als": als(), "kernel": kernel_rank(), "ratings": of_ratings()}
    return {name: Loaded.of(released(model, folder / name)) for name, model in models.items()}


def test_batches_of_every_kind_mix_nobody(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for name, loaded in toys(tmp_path).items():
        states = []
        for count in (0, 1, 5, 30, 2):
            items = generator.integers(0, len(IDS), count)
            ratings = np.ones(count, np.float32) * 4 if name == "ratings" else None
            states.append(loaded.model.fit(History(items, ratings)))
        asked = [Asked(state, 5 + place, state.history.items) for place, state in enumerate(states)]
        for one, found in zip(asked, loaded.model.top_many(asked), strict=True):
            alone = loaded.model.top(one.state, one.k, one.exclude)
            assert [part.tolist() for part in found] == [part.tolist() for part in alone]
        assert [len(each[0]) for each in loaded.model.top_many([Asked(states[1], 0), Asked(states[2], 2)])] == [0, 2]


def test_a_state_and_new_events_give_the_list_of_the_whole_history(tmp_path: Path) -> None:
    for name, loaded in toys(tmp_path).items():
        rated = {"ratings": (4.0, 3.0)} if name == "ratings" else {}
        first = loaded.lists([Person(history=("item-3", "item-9"), keep_state=True, **rated)])[0]
        assert isinstance(first, Listed)
        more = {"ratings": (2.0,)} if rated else {}
        again = loaded.lists([Person(state=first.state, history=("item-4",), k=20, **more)])[0]
        whole = {"ratings": (4.0, 3.0, 2.0)} if rated else {}
        expected = loaded.lists([Person(history=("item-3", "item-9", "item-4"), k=20, **whole)])[0]
        assert again == expected, "to the last bit of the scores"


def test_times_put_events_in_order(tmp_path: Path) -> None:
    loaded = toys(tmp_path)["kernel"]
    given = Person(history=("item-4", "item-3", "item-9"), times=(3.0, 1.0, 2.0), k=20)
    assert loaded.lists([given]) == loaded.lists([Person(history=("item-3", "item-9", "item-4"), k=20)])
    assert loaded.lists([given]) != loaded.lists([Person(history=("item-4", "item-3", "item-9"), k=20)])


def test_requests_that_wait_share_a_batch_and_one_that_fails_fails_alone(tmp_path: Path) -> None:
    loaded, sizes = Loaded.of(released(of_ratings(), tmp_path / "run")), []

    async def ask() -> list[object]:
        batches = Batches(people=4, made=sizes.append)
        people = [Person(history=(IDS[n],), ratings=None if n == 2 else (4.0,)) for n in range(9)]
        return await asyncio.gather(*(batches.lists(loaded, [each]) for each in people), return_exceptions=True)

    found = asyncio.run(ask())
    assert sizes == [4, 4, 1]
    assert [place for place, each in enumerate(found) if isinstance(each, Exception)] == [2]
    assert "needs ratings" in str(found[2])
    alone = [loaded.lists([Person(history=(IDS[n],), ratings=(4.0,))]) for n in range(9) if n != 2]
    assert [each for place, each in enumerate(found) if place != 2] == alone


def test_every_route_is_described_and_answers_so(both: tuple[Served, Serving]) -> None:
    server, _ = both
    document = server.ask("/openapi.json", b"", method="GET")[2]
    assert document == json.loads(json.dumps(described(ROUTES, ABOUT, token=False)))
    assert set(document["paths"]) == {each.path for each in ROUTES}
    asked = {"/v1/recommend": {"history": ["item-3"], "keep_state": True}, "/v1/recommend-many": {"people": [{}]}}
    for path, operation in document["paths"].items():
        (method, about), body = next(iter(operation.items())), asked.get(path, b"")
        status, headers, answer = server.ask(path, body, method=method.upper())
        assert status == 200, path
        content = about["responses"]["200"]["content"]
        if path == "/metrics":
            assert headers["content-type"].startswith("text/plain; version=0.0.4")
            continue
        schema = content["application/json"]["schema"] | {"components": document["components"]}
        Draft202012Validator(schema).validate(answer)


def test_the_model_says_what_it_is_and_what_its_statement_says(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run")
    (run / "release" / "privacy").mkdir()
    statement = {"guarantee": "g", "unit": "user", "epsilon": "1.5", "delta": "1e-05", "other": [1]}
    (run / "release" / "privacy" / "statement.json").write_text(json.dumps(statement))
    about = Loaded.of(run).about
    assert about.statement is not None
    assert (about.algorithm, about.items, about.statement.epsilon) == ("als", len(IDS), "1.5")
    (run / "release" / "privacy" / "statement.json").write_text("[")
    assert Loaded.of(run).about.statement is None


def test_another_release_takes_over_and_a_damaged_one_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current = tmp_path / "current"
    current.symlink_to(released(als(0), tmp_path / "first"))
    with serving_of(current) as (server, serving):
        old = serving.model
        reloading = Reloading(serving, Loaded.of, current, None)
        assert reloading.once() == "same"
        broken = released(als(1), tmp_path / "broken")
        (broken / "release/model/items.json").write_text("[]")
        current.unlink()
        current.symlink_to(broken)
        assert reloading.once() == "refused"
        assert serving.model is old
        assert not reloading._changed(), "a refused release is tried again only when asked"
        token = server.ask("/v1/recommend", {"history": ["item-3"], "keep_state": True})[2]["state"]
        current.unlink()
        current.symlink_to(released(als(2), tmp_path / "second"))
        assert reloading._changed()
        assert reloading.once() == "used"
        answer = server.ask("/v1/recommend", {"history": ["item-3"]})[2]
        assert answer["model"] == serving.model.about.digest != old.about.digest
        assert old.lists([Person(history=("item-3",))]), "a request in flight ends on the old model"
        status, _, answer = server.ask("/v1/recommend", {"state": token})
        assert (status, answer["error"]["code"]) == (409, "stale_state")
        text = server.ask("/metrics", b"", method="GET")[2].decode()
        assert f'digest="{serving.model.about.digest}"' in text
        assert old.about.digest not in text
        assert 'fedrec_reloads_total{result="refused"} 1.0' in text
    assert "reload refused, the model in use stays" in capsys.readouterr().err


def with_people(folder: Path) -> Loaded:
    config = PeopleConfig.model_validate({"attributes": {"lang": ["fi", "sv"]}})
    network = PeopleNetwork(config.layers, config.width, 4)
    with torch.no_grad():
        network.layers[-1].weight.copy_(torch.randn(4, 2, generator=torch.Generator().manual_seed(3)))
    items = torch.randn(len(IDS), 4, generator=torch.Generator().manual_seed(4))
    solver = SolverConfig(alpha0=0.0, reg=0.1, decay=0.9, steps=0, scale=1.0, ratings=False)
    return Loaded.of(released(TowerModel(items, torch.zeros(len(IDS)), solver, (config, network)), folder))


def test_attributes_count_for_the_request_that_has_them_and_for_no_other(tmp_path: Path) -> None:
    loaded = with_people(tmp_path / "run")
    nobody, finn = Person(history=("item-3",), k=20), Person(history=("item-3",), k=20, attributes={"lang": "fi"})
    plain, own = loaded.lists([nobody, finn])
    assert isinstance(own, Listed)
    history = History(np.array([3]), attributes={"lang": "fi"})
    assert own.items != plain.items  # type: ignore[union-attr]
    expected = recommend(loaded.model, loaded.model.fit(history), Wishes(k=20))
    assert [(each.item, each.score) for each in own.items] == [(IDS[each.item], each.score) for each in expected]
    kept = loaded.lists([finn.model_copy(update={"keep_state": True})])[0]
    assert isinstance(kept, Listed)
    assert kept.items == own.items
    again, named = loaded.lists(
        [Person(state=kept.state, k=20), Person(state=kept.state, k=20, attributes={"lang": "fi"})]
    )
    assert again == plain, "the state that is kept has no attributes"
    assert named == own


def test_attributes_change_nothing_under_a_model_without_a_network_for_people(tmp_path: Path) -> None:
    for loaded in toys(tmp_path).values():
        rated = (4.0,) if loaded.about.needs_ratings else None
        plain = Person(history=("item-3",), ratings=rated)
        assert loaded.lists([plain]) == loaded.lists([plain.model_copy(update={"attributes": {"lang": "fi"}})])


def test_too_many_attributes_are_refused_without_their_values(both: tuple[Served, Serving]) -> None:
    for given in ({f"name {n}": "secret" for n in range(101)}, {"age": 25}, {"": "secret"}, {"age": "secret" * 200}):
        status, _, answer = both[0].ask("/v1/recommend", {"history": [], "attributes": given})
        assert status == 400
        assert "secret" not in json.dumps(answer)
