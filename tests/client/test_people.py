"""Times and attributes of a person at a node: sums get them where its policy allows it, and no server asks for them."""

import struct
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fedrec_client import EdgeClient, Event, KeyFile
from fedrec_client.consent.files import POLICY, write_policy
from fedrec_client.consent.policy import DataPolicy, Policy
from fedrec_client.edge.kinds_of_events import Reading
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.node import UserNode
from fedrec_client.node_config import ConfigError
from fedrec_client.participation import child_run
from fedrec_client.participation.device_spec import Wanted
from fedrec_client.participation.store_mark import DAY, StoreMark
from fedrec_client.participation.stored_user import StoredUser
from fedrec_client.sources import finder
from fedrec_client.store import Recorded

from fedrec import wire
from fedrec.algorithms import tower_sgd
from fedrec.data.datasets import DataConfig
from fedrec.data.histories import Histories
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import HeldIds
from tests.client.participation.child_in_thread import InThread
from tests.client.participation.devices_over_nodes import FEW, Devices
from tests.client.participation.test_devices_over_nodes import LOCAL

ALLOWED = Policy(data=DataPolicy(attributes=True))
ITEMS = HeldIds([str(item) for item in range(9)])


@pytest.fixture
def device(tmp_path: Path) -> Path:
    folder = tmp_path / "device"
    folder.mkdir(mode=0o700)
    return folder


def test_a_device_gives_attributes_to_sums_where_its_policy_allows_it(device: Path) -> None:
    user = StoredUser(DeviceFolder(device))

    def history(policy: Policy) -> History:
        return user.history(ITEMS, Wanted(most_events=2), policy)[0]

    with EdgeClient.open(device, KeyFile(device / "events.key")) as client:
        client.set_attribute("gender", "F")
        StoreMark(device, client._store).renew(time.time() - 9 * DAY)
        assert history(ALLOWED).attributes == {}, "a person without events gives nothing"
        events = [Event("3", "like", 5.0), Event("1", "view", 9.0), Event("7", "like", 7.25), Event("2", "like")]
        client.record_all(events)
        assert history(Policy()).attributes == {}, "no, unless a policy says so"
        found = history(ALLOWED)
        assert found.attributes == {"gender": "F"}
        assert found.items.tolist() == [2, 1], "the event without a time comes after the one recorded before it"
        assert found.times is not None
        assert repr(found.times.tolist()) == "[nan, 9.0]"
        client.forget("3")
        assert (len(history(ALLOWED)), history(ALLOWED).attributes) == (0, {}), "a trust period"
        client.forget(everything=True)
        assert client.attributes == {}


def node(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nann,1,50\nann,2,40\nbob,2,30\n")
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{item},Film {item}\n" for item in range(9)))
    (tmp_path / "people.csv").write_text("user_id,gender\nbob,M\nzoe,F\n")
    return {
        name: str(tmp_path / f"{file}.csv")
        for name, file in (("data", "events"), ("catalogue", "items"), ("people", "people"))
    } | {"users": 3}


def hosted(config: dict[str, str], policy: Policy, **settings: object) -> Histories:
    source = finder(config, policy.data)(DataRequest(data=DataConfig(**settings), seed=1).text()).source
    assert isinstance(source, Histories)
    return source


def test_a_node_reads_its_own_people_where_its_policy_allows_it(tmp_path: Path) -> None:
    config = node(tmp_path)
    assert hosted(config, Policy()).people is None
    found = hosted(config, ALLOWED)
    assert found.people is not None
    assert [found.people.person(user) for user in range(3)] == [{}, {"gender": "M"}, {}], "the third place is free"
    assert found.times is not None
    assert found.times.tolist() == [40, 50, 30]


@pytest.mark.parametrize("of_its_own", [True, False])
def test_a_server_that_asks_for_them_is_refused(tmp_path: Path, of_its_own: bool) -> None:
    config = node(tmp_path)
    if not of_its_own:
        config = {"partition-id": 0, "num-partitions": 1}
    asked = {"name": "nodes" if of_its_own else "quickstart", "people": tmp_path / "people.csv"}
    with pytest.raises(ConfigError, match=r"attributes of users stay with the node|reads files only"):
        hosted(config, ALLOWED, **asked)
    answer = UserNode(finder(config, ALLOWED.data)).answer(
        exchange.ask_hello(DataRequest(data=DataConfig(**asked), seed=1))
    )
    assert answer.facts == {"code": "data"}


def test_the_time_of_an_item_is_that_of_its_first_event() -> None:
    events = [Event("a", "view", 3.0), Event("b", "dislike", 4.0), Event("c"), Event("a", "like", 9.0)]
    history = (
        Reading("abc".index, rated=False, min_rating=None)
        .read([Recorded(number, event) for number, event in enumerate(events, 1)])
        .history
    )
    assert history.items.tolist() == [0, 2]
    assert repr(history.times.tolist() if history.times is not None else None) == "[3.0, nan]"


def test_a_longer_history_keeps_its_times_and_attributes() -> None:
    one = History(np.array([1]), attributes={"gender": "F"})
    longer = one.plus(2).plus(3, 4.5, 7.0)
    assert repr(longer.times.tolist() if longer.times is not None else None) == "[nan, nan, 7.0]"
    assert longer.without(2).items.tolist() == [1, 3]
    assert repr(longer.without(2).times.tolist()) == "[nan, 7.0]"  # type: ignore[union-attr]
    assert longer.attributes == {"gender": "F"}
    assert "F" not in repr(replace(longer, items=np.array([1])))


@pytest.mark.slow
def test_attributes_on_devices_enter_sums_and_reach_no_message_ledger_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment over devices with planted attributes, of which the run's public values have one."""
    monkeypatch.setattr(child_run, "subprocess", SimpleNamespace(Popen=InThread, PIPE=None))
    answers: list[wire.Packet] = []
    answer = UserNode.answer
    monkeypatch.setattr(UserNode, "answer", lambda self, asked: answers.append(answer(self, asked)) or answers[-1])
    coded: list[np.ndarray] = []
    code = tower_sgd.columns
    monkeypatch.setattr(tower_sgd, "columns", lambda *given: coded.append(code(*given)) or coded[-1])
    devices = Devices(tmp_path / "nodes", sizes=(4, 1), with_torch=True)
    monkeypatch.setenv(*devices.environment())
    for place in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0)):
        folder = devices.device(*place)
        with EdgeClient.open(folder, KeyFile(folder / "events.key")) as client:
            client.set_attribute("sign", "zebraquartz")
            client.set_attribute("age", "61.8125")
        (folder / POLICY).unlink()
        write_policy(folder / POLICY, replace(FEW, data=DataPolicy(attributes=place != (1, 0))))
    changes = (*LOCAL, "algorithm.name=tower-sgd", "algorithm.rounds=1", "algorithm.popularity_weight=0")
    out = devices.deploy(tmp_path / "run", *changes, 'algorithm.people.attributes={sign=["a"],age={limits=[30]}}')
    assert sorted(each.tolist() for each in coded) == [[[0.0, 0.0, 0.0]]] + [[[0.0, 1.0, 0.0]]] * 4, (
        "the age group alone, where a policy allows it"
    )
    sealed = {".store", ".store-wal", ".store-shm", ".key"}
    files = [file for root in (out, devices.folder) for file in root.rglob("*") if file.is_file()]
    content = [file.read_bytes() for file in files if file.suffix not in sealed]
    content += [repr(dict(each.facts)).encode() for each in answers]
    content += [np.asarray(part).tobytes() for each in answers for part in each.tensors.values()]
    assert len(content) > 20
    traces = (b"zebraquartz", b"61.8125", struct.pack("<d", 61.8125))
    assert not [trace for trace in traces for part in content if trace in part]
