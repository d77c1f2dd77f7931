"""A node answers for its users, refuses in one word, and no text or data of its own leaves it."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import fedrec_client.torch_run
import numpy as np
import pytest
import torch
from fedrec_client import app
from fedrec_client.hosted_data import Hosted
from fedrec_client.node import UserNode
from fedrec_client.node_config import VIRTUAL, ConfigError
from fedrec_client.sources import finder
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from pydantic import BaseModel

from fedrec import wire
from fedrec.data.balance import BalanceConfig
from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.federation.spec import UsersNoise
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.plan import PrivacyConfig
from tests.server.deployed import DATA, REQUEST, data, hosted, spec_of

PRIVATE, OPEN = PrivacyConfig(epsilon=2.0, delta=1e-4), PrivacyConfig(epsilon="none")
SECRET = "alice watched item 17"


def question(privacy: PrivacyConfig = PRIVATE, cohort: list[int] | None = None, **facts: object) -> wire.Packet:
    spec = spec_of("popularity", privacy, 100)
    shared = {"popularity": torch.ones(60)}
    digests = {name: wire.digest(tensor) for name, tensor in shared.items()}
    positions = None if cohort is None else np.array(cohort, dtype=np.int64)
    packet = exchange.ask_sum(spec.text(), wire.fingerprint(spec.text()), 0, digests, shared, positions, 50)
    return replace(packet, facts={**packet.facts, **facts})


def with_cohort(bits: torch.Tensor) -> wire.Packet:
    asked = question(cohort=[7])
    return replace(asked, tensors={**asked.tensors, "cohort": bits})


def node(hosted_here: Hosted | None = None) -> UserNode:
    return UserNode(lambda _: hosted_here or hosted(3)[0])


def code(packet: wire.Packet) -> str:
    assert packet.kind == exchange.REFUSAL
    assert packet.facts.keys() == {"code"}
    assert not packet.tensors
    return packet.facts["code"]


def test_hello_tells_how_many_users_which_shard_and_which_catalogue() -> None:
    answer = node().answer(exchange.ask_hello(REQUEST))
    assert answer.kind == exchange.PRESENCE
    assert answer.facts == {"users": 50, "place": 0, "catalogue": data()[0].catalogue.digest}
    assert not answer.tensors


def test_a_sum_has_the_bytes_that_follow_from_the_number_of_users() -> None:
    """36 bits of a clip, those of the 50 hosted users, and a sign are 6 bytes, for any cohort of them."""
    for cohort in ([7], [8], [3, 4, 5], None):
        answer = node().answer(question(cohort=cohort))
        assert wire.size(wire.to_record(answer)) == 60 * 6
    assert wire.size(wire.to_record(node().answer(question(OPEN)))) == 60 * 8, "nothing bounds it"


def test_a_cohort_of_one_is_that_user_clipped() -> None:
    source = hosted(3)[0].source
    total = node().answer(question(cohort=[7])).tensors["popularity"]
    found = Lattice.of(1.0, 100).values(total)
    row = np.zeros(60, dtype=np.float32)
    row[source.row(7)] = 1
    expected = torch.from_numpy(row / np.linalg.norm(row)).double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert float(found.norm()) <= 1


@pytest.mark.parametrize(
    ("packet", "word"),
    [
        (replace(question(), version=wire.VERSION + 1), "version"),
        (replace(question(), kind="other"), "request"),
        (replace(question(), fingerprint="0" * 64), "fingerprint"),
        (replace(question(), round=1), "request"),
        (replace(question(), round=-1), "request"),
        (replace(question(), tensors={}), "missing"),
        (question(spec="{}"), "fingerprint"),
        (question(spec=7), "request"),
        (question(digests="[]"), "request"),
        (question(digests="x"), "request"),
        (with_cohort(torch.zeros(8, dtype=torch.uint8)), "cohort"),
        (with_cohort(torch.zeros(7, 1, dtype=torch.uint8)), "cohort"),
        (with_cohort(torch.tensor([3, 7], dtype=torch.int64)), "cohort"),
        (with_cohort(torch.tensor([0] * 6 + [4], dtype=torch.uint8)), "cohort"),
        (replace(question(), facts={**question().facts, "everybody": False}), "cohort"),
        (wire.Packet("hello", facts={"data": "{}"}), "data"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_word(packet, word) -> None:
    made = UserNode(finder({"partition-id": 0, "num-partitions": 3}))
    assert code(made.answer(packet)) == word
    assert made.answer(question()).kind == exchange.SUMS


def test_rounds_beyond_the_policy_cost_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of users' noise has the queries of every round, and a server may name any number of rounds."""
    spec = spec_of("als", PRIVATE, 100)
    noise = UsersNoise(trust="local", epsilon=2.0, delta=1e-4, sampling=1.0)
    spec = spec.model_copy(update={"settings": spec.settings | {"rounds": 10**7}, "noise": noise})
    planned = []
    monkeypatch.setattr(fedrec_client.torch_run, "UsersNoise", lambda *given: planned.append(given))
    packet = exchange.ask_sum(spec.text(), spec.fingerprint, 0, {}, {}, None, 50)
    assert code(node().answer(packet)) == "terms"
    assert not planned


def test_another_catalogue_is_refused() -> None:
    one = hosted(3)[0]
    other = Catalogue(tuple(f"x{n}" for n in range(60)))
    assert code(node(replace(one, catalogue=other)).answer(question())) == "catalogue"


def test_a_run_without_privacy_needs_public_data() -> None:
    one = hosted(3)[0]
    assert node(one).answer(question(OPEN)).kind == exchange.SUMS
    one = replace(one, public=False)
    assert code(node(one).answer(question(OPEN))) == "privacy"
    assert node(one).answer(question()).kind == exchange.SUMS


@pytest.mark.parametrize("error", [RuntimeError(SECRET), InputError(SECRET), KeyError(SECRET)])
def test_no_text_of_an_error_leaves_or_is_logged(error, caplog) -> None:
    caplog.set_level(logging.DEBUG)

    def fails(_):
        raise error

    for packet in (question(), exchange.ask_hello(REQUEST)):
        answer = UserNode(fails).answer(packet)
        assert code(answer) in ("error", "data")
        assert SECRET.encode() not in repr(answer).encode()
    assert caplog.records
    assert "alice" not in caplog.text


def message(packet: wire.Packet) -> Message:
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    return Message(wire.to_record(packet), dst_node_id=5, message_type="train")


def context(**config: object) -> Context:
    return Context(run_id=1, node_id=5, node_config=config, state=RecordDict(), run_config={})


def test_the_app_answers_no_question_without_a_run_card(tmp_path) -> None:
    where = context(**{"partition-id": 0, "num-partitions": 3, "state": str(tmp_path)})
    assert code(wire.from_record(app.answer_message(message(question()), where).content)) == "card"


def test_the_app_keeps_what_it_holds_for_the_next_process(monkeypatch) -> None:
    monkeypatch.setenv(VIRTUAL, "1")
    app._node.cache_clear()
    where = context(**{"partition-id": 0, "num-partitions": 3})
    first = wire.from_record(app.answer_message(message(question()), where).content)
    app._node.cache_clear()  # as in a new process
    again = wire.from_record(app.answer_message(message(replace(question(), tensors={})), where).content)
    assert first.kind == again.kind == exchange.SUMS
    assert torch.equal(first.tensors["popularity"], again.tensors["popularity"])
    app._node.cache_clear()
    lost = app.answer_message(message(replace(question(), tensors={})), context(**where.node_config))
    assert code(wire.from_record(lost.content)) == "missing"
    app._node.cache_clear()


def test_the_app_never_raises_and_refuses_what_is_no_packet() -> None:
    where = context(**{"partition-id": 0, "num-partitions": 3})
    odd = message(question())
    odd.content[wire.FACTS]["version"] = "1"
    assert code(wire.from_record(app.answer_message(odd, where).content)) == "request"
    nobody = app.answer_message(message(question()), context())
    assert code(wire.from_record(nobody.content)) == "data"


def write(folder, users: int = 4, name: str = "events.csv"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(users) for i in (1, 2)))
    (folder / "catalogue.csv").write_text("item_id,title\n" + "".join(f"{i},film {i}\n" for i in range(5)))
    return folder


def test_a_node_with_data_of_its_own_takes_part_with_the_public_catalogue(tmp_path) -> None:
    write(tmp_path)
    made = UserNode(finder({"data": str(tmp_path)}))
    answer = made.answer(exchange.ask_hello(DataRequest(data=DATA, seed=1)))
    assert (answer.facts["users"], answer.facts["place"]) == (4, -1)
    files = {"data": str(tmp_path / "events.csv"), "catalogue": str(tmp_path / "catalogue.csv")}
    assert UserNode(finder(files)).answer(exchange.ask_hello(DataRequest(data=DATA, seed=1))).facts == answer.facts


def test_a_server_cannot_have_a_node_read_a_file(tmp_path) -> None:
    file = write(tmp_path) / "events.csv"
    made = UserNode(finder({"partition-id": 0, "num-partitions": 2}))
    popular = BalanceConfig(popularity=tmp_path / "popular.csv")
    for change in ({"path": file, "name": "file"}, {"catalogue": tmp_path / "catalogue.csv"}, {"balance": popular}):
        asked = exchange.ask_hello(DataRequest(data=DATA.model_copy(update=change), seed=1))
        assert code(made.answer(asked)) == "data"


def test_every_file_that_a_run_could_name_is_one_that_nodes_refuse() -> None:
    def paths(kind: type[BaseModel]) -> int:
        kinds = [part for field in kind.model_fields.values() for part in parts(field.annotation)]
        inner = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        return sum("Path" in str(one) for one in kinds if one not in inner) + sum(map(paths, inner))

    def parts(kind: Any) -> tuple[Any, ...]:
        """The tables that a setting may hold, also where it may be left out."""
        return tuple(one for one in get_args(kind) if one is not NoneType) if NoneType in get_args(kind) else (kind,)

    whole = {"path": "a", "catalogue": "b", "people": "e", "vectors": "d", "balance": {"popularity": "c"}}
    whole |= {"cleaning": {"impute": "item-means", "item_means": "f"}}
    named = DataConfig.model_validate(whole)
    assert len(named.files) == paths(DataConfig) == paths(DataRequest) == 6


@pytest.mark.parametrize("name", ["amazon/../../private", "../private", "..", ".", "", "a\\b", "/private", "a\0b"])
def test_a_server_cannot_have_a_node_read_another_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "data" / "amazon").mkdir(parents=True)
    write(tmp_path / "private", name="private.inter")
    made = UserNode(finder({"partition-id": 0, "num-partitions": 2, "data-dir": str(tmp_path / "data")}))
    asked = DataRequest(data=DATA, seed=1).text().replace('"quickstart"', json.dumps(name))
    assert name == "" or json.dumps(name) in asked
    hello = exchange.ask_hello(DataRequest(data=DATA, seed=1))
    assert code(made.answer(replace(hello, facts={**hello.facts, "data": asked}))) in ("data", "request")


def test_a_node_with_data_of_its_own_heeds_how_many_events_train(tmp_path) -> None:
    write(tmp_path)
    for most, length in ((None, 2), (1, 1)):
        asked = DataRequest(data=DATA.model_copy(update={"balance": BalanceConfig(most_events=most)}), seed=1)
        found = finder({"data": str(tmp_path)})(asked.text())
        assert found.source.lengths.tolist() == [length] * 4


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "knows no users"),
        ({"partition-id": 0}, "knows no users"),
        ({"partition-id": 2, "num-partitions": 2}, "whole numbers"),
        ({"partition-id": "0", "num-partitions": 2}, "whole numbers"),
        ({"data": "/nowhere"}, "no such file"),
    ],
)
def test_a_configuration_that_names_no_users_is_one_line(config, text) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        finder(config)
    assert "\n" not in str(caught.value)


def test_private_events_without_a_catalogue_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="items taken from private events would reveal them"):
        finder({"data": str(write(tmp_path) / "events.csv")})
    (tmp_path / "catalogue.csv").unlink()
    with pytest.raises(ConfigError, match="must hold one file"):
        finder({"data": str(tmp_path)})


def test_what_a_question_says_of_the_run_names_no_user_and_no_noise() -> None:
    told = json.loads(question().facts["spec"])
    assert told.keys() == {
        "algorithm", "settings", "data", "catalogue", "users", "expected_cohort", "mu", "evaluation_share", "stopping",
        "seed",
    }  # fmt: skip
