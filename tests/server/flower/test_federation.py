"""The federation over nodes: bad answers are not used and break nothing; nodes that are absent, late or back."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from fedrec_server.flower.nodes import NodeDirectory
from fedrec_server.flower.reply_checks import Expected, checked_sums
from flwr.app import Array, ConfigRecord, Error, Message, RecordDict

from fedrec import wire
from fedrec.errors import InputError, PrivacyError
from fedrec.federation import exchange
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import MOST_BITS, Lattice
from fedrec.privacy.plan import PrivacyConfig
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.run.coordinator import Coordinator
from fedrec.run.federation import FederationConfig
from fedrec.wire import Packet, WireError
from tests.server.deployed import REQUEST, data, deployed, hosted
from tests.server.grid_in_memory import MemoryGrid, with_packet
from tests.server.toy import private_sums

LENIENT = FederationConfig(min_nodes=2, deadline=0.2, patience=0.2)
BAD = 1007  # the second of three nodes


def tensors(change):
    return with_packet(lambda packet: replace(packet, tensors=change(dict(packet.tensors))))


def first(change):
    return tensors(lambda found: {**found, "popularity": change(found["popularity"])})


def raw(name: str, value: object):
    def twist(_, record):
        record[wire.FACTS][name] = value
        return record

    return twist


def truncated(_, record):
    array = record[wire.TENSORS]["popularity"]
    record[wire.TENSORS]["popularity"] = Array(array.dtype, array.shape, array.stype, array.data[:-4])
    return record


TWISTS = {
    "dtype": first(lambda value: value.double()),
    "shape": first(lambda value: value[:-1]),
    "dtype, not exact": first(lambda value: value.float()),
    "overflow": first(lambda value: value.index_fill(0, torch.tensor([3]), 1 << 60)),
    "overflow, the least": first(lambda value: value.index_fill(0, torch.tensor([3]), -(1 << 63))),
    "oversize": first(lambda value: value * 0 + (50 << MOST_BITS)),
    "names": tensors(lambda found: {**found, "more": torch.zeros(1)}),
    "names, none": tensors(lambda _: {}),
    "version": raw("version", wire.VERSION + 1),
    "round": with_packet(lambda packet: replace(packet, round=packet.round + 1)),
    "fingerprint": with_packet(lambda packet: replace(packet, fingerprint="0" * 64)),
    "kind": with_packet(lambda packet: replace(packet, kind=exchange.PRESENCE)),
    "tensor": truncated,
    "records": lambda *_: RecordDict({"x": ConfigRecord({"a": 1})}),
    "refused, error": with_packet(lambda packet: exchange.refusal("error", packet)),
    "error 2": lambda *_: Error(code=2, reason="alice watched 17"),
}


def without(n: int, made) -> dict[str, torch.Tensor]:
    """Return the result without that node from the start."""
    made.grid.away = {1000 + 7 * n}
    return made.round()


@pytest.mark.parametrize("name", TWISTS)
def test_a_bad_reply_is_not_used_and_the_round_goes_on(name, caplog) -> None:
    expected = without(1, deployed(3, config=LENIENT))
    made = deployed(3, config=LENIENT)
    made.grid.twists[BAD] = TWISTS[name]
    found = made.round()
    assert torch.equal(found["popularity"], expected["popularity"])
    assert made.messenger.counts[name.split(", ")[0] if name != "refused, error" else name] > 0
    assert made.federation.absences == 1
    assert "alice" not in caplog.text


def test_a_reply_under_another_name_late_or_twice_is_not_used() -> None:
    expected = deployed(3, config=LENIENT).round()
    made = deployed(3, config=LENIENT)
    honest = made.grid.pull_messages

    def pull(identities):
        replies = honest(identities)
        for reply in list(replies):
            again = Message(reply.content, reply_to=reply)
            again.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
            again.metadata.__dict__["_src_node_id"] = reply.metadata.src_node_id
            replies.append(again)  # the second of the same
            foreign = Message(reply.content, reply_to=reply)
            foreign.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
            foreign.metadata.__dict__["_src_node_id"] = 99
            replies.insert(0, foreign)
        return replies

    made.grid.pull_messages = pull
    found = made.round()
    assert torch.equal(found["popularity"], expected["popularity"])
    assert made.messenger.counts["foreign"] == made.messenger.counts["late or duplicate"] == 3


def test_a_replay_of_another_round_is_not_used() -> None:
    made = deployed(3, "als", PrivacyConfig(epsilon=2.0, delta=1e-4), LENIENT)
    old: dict[str, RecordDict] = {}

    def replay(_, record):
        return old.setdefault("first", record)

    made.grid.twists[BAD] = replay
    made.round(0)
    assert made.federation.absences == 0
    made.round(1)
    assert made.federation.absences == 1
    assert made.messenger.counts["round"] > 0


def test_ten_thousand_malformed_or_hostile_messages_none_accepted_none_fatal() -> None:
    rng = random.Random(7)
    query = SumQuery("popularity", (6,), 1.0, 0.5)
    asked = Expected("mark", 3, (query,), 5, True, 50)
    good = Packet(exchange.SUMS, "mark", 3, tensors={"popularity": torch.full((6,), 1 << (MOST_BITS - 1))})
    checked_sums(wire.from_record(wire.to_record(good)), asked)
    odd = (None, "", "x" * 300, 0, -1, 2**62, 1.5, True, b"\x80\x04.", [1], ["a"])
    names = ("version", "kind", "fingerprint", "round", "fact.users", "fact.code")
    keep = {"version": wire.VERSION, "kind": "sums", "fingerprint": "mark", "round": 3}

    def facts(record):
        name, value = rng.choice(names), rng.choice(odd)
        if value is None and name in keep:
            del record[wire.FACTS][name]
        elif name in keep and type(value) is type(keep[name]) and value == keep[name]:
            record[wire.FACTS]["fact.extra"] = 1
        else:
            record[wire.FACTS][name] = value if value is not None else "extra"

    def array(record):
        dtype = rng.choice(["float32", "float64", "object", "int64", "bool", "", "float32"])
        shape = tuple(rng.choice([0, 1, 2, 5, 6, 7, -6, 2**40]) for _ in range(rng.randrange(4)))
        stype = rng.choice([wire.RAW, wire.HALF, wire.ROWS, "numpy.ndarray", "pickle"])
        length = rng.choice([0, 1, 6, 12, 24, 48, 25])
        if (dtype, shape, stype, length) == ("int64", (6,), wire.RAW, 48):
            length -= 1
        record[wire.TENSORS]["popularity"] = Array(dtype, shape, stype, rng.randbytes(length))

    def values(record):
        value = rng.choice([float("nan"), float("inf"), 0.5, 22 << (MOST_BITS - 3), -(1 << 59), 1 << 60, -(1 << 63)])
        tensor = torch.full((6,), value)
        record[wire.TENSORS]["popularity"] = wire.to_record(Packet("", tensors={"a": tensor}))[wire.TENSORS]["a"]

    def records(record):
        name = rng.choice([wire.FACTS, wire.TENSORS, "more"])
        if name in record:
            del record[name]
        else:
            record[name] = ConfigRecord({"a": 1})

    refused = 0
    for _ in range(10_000):
        record = wire.to_record(good)
        rng.choice([facts, array, values, records])(record)
        with pytest.raises(WireError):
            checked_sums(wire.from_record(record), asked)
        refused += 1
    assert refused == 10_000


def test_an_honest_node_is_never_taken_for_oversize() -> None:
    rng = np.random.default_rng(0)
    for users in (1, 100, 5000):
        same = torch.from_numpy(rng.normal(size=50)).float()
        query, total = SumQuery("q", (50,), 1.0, 1.0), torch.zeros(50, dtype=torch.int64)
        rows = DenseContribution(2 * same[None].repeat(users, 1) / same.norm())
        rows.add_to(total, clip_weights(rows, 1.0), Lattice.of(1.0, users))
        asked = Expected("mark", 0, (query,), users, True, users)
        packet = Packet(exchange.SUMS, "mark", 0, tensors={"q": total})
        assert checked_sums(packet, asked)
        with pytest.raises(WireError):
            checked_sums(replace(packet, tensors={"q": total + total // 10_000}), asked)


def test_a_node_that_lost_what_it_held_gets_all_of_it_again() -> None:
    made = deployed(3, "als")
    state = made.algorithm.initial() | {"unchanged": torch.arange(10.0)}
    made.round(0, state)
    sent = made.messenger.sent
    made.grid.nodes[BAD].held.clear()
    changed = state | {"gram": state["gram"] + 1}
    made.round(1, changed)
    travels = [tensor for name, tensor in state.items() if name not in made.algorithm.server_only]
    gram, whole = state["gram"].numel() * 4, sum(tensor.numel() * 4 for tensor in travels)
    assert made.messenger.sent - sent == 3 * gram + whole
    assert made.messenger.counts["refused, missing"] == 1
    assert made.federation.absences == 0


@pytest.mark.parametrize("name", ["kernel-rank", "tower-sgd"])
def test_what_only_the_server_needs_is_sent_to_nobody(name) -> None:
    made = deployed(2, name)
    made.run()
    down = b"".join(made.grid.down)
    named = {name: f'"{name}": "'.encode() in down for name in made.algorithm.initial()}  # in the list of digests
    assert {name for name, sent in named.items() if not sent} == made.algorithm.server_only & named.keys()


def test_coarse_downloads_are_what_nodes_compute_with() -> None:
    exact, coarse = (deployed(2, "als", config=FederationConfig(download=p)) for p in ("float32", "int8"))
    a, b = exact.round(1), coarse.round(1)
    assert coarse.messenger.sent < 0.5 * exact.messenger.sent
    assert 0 < float((a["items"] - b["items"]).norm() / a["items"].norm()) < 0.2


def test_too_few_nodes_stop_the_round_and_say_so() -> None:
    made = deployed(3, config=FederationConfig(deadline=0.05, patience=0.05))
    made.grid.away = {BAD}
    with pytest.raises(TooFewNodes, match="2 of 3 nodes answered, at least 3 of 3 are needed"):
        made.round()


def test_a_node_that_comes_back_in_time_is_asked_again() -> None:
    expected = deployed(3).round()
    made = deployed(3)
    made.grid.away, looks = {BAD}, []
    online = made.grid.get_node_ids

    def ids():
        looks.append(1)
        if len(looks) > 5:
            made.grid.away = set()
        return online()

    made.grid.get_node_ids = ids
    assert torch.equal(made.round()["popularity"], expected["popularity"])


def test_a_shard_that_comes_back_under_another_id_takes_its_place() -> None:
    made = deployed(3)
    expected = deployed(3).round()
    made.grid.nodes[5] = made.grid.nodes.pop(BAD)
    assert torch.equal(made.round()["popularity"], expected["popularity"])
    assert made.federation.directory.ids == [1000, 5, 1014]


@pytest.mark.parametrize("name", ["als", "popularity"])
def test_neither_the_number_of_messages_nor_their_bytes_show_who_takes_part(name: str) -> None:
    """The attacker reads every byte count that a run leaves, and what the network shows, and looks for the cohorts."""
    seen = []
    for take in (lambda n: n[:0], lambda n: n[:1], lambda n: n[:50], lambda n: n[1::2], lambda n: n):
        made = deployed(3, name, PrivacyConfig(epsilon=2.0, delta=1e-4, sampling=0.5))
        made.plan.sample = lambda round_index, take=take: take(np.arange(150))
        made.run()
        sizes = [list(map(len, messages)) for messages in (made.grid.down, made.grid.up)]
        seen.append((made.grid.asked, sizes, made.messenger.sent, made.messenger.received))
    assert all(one == seen[0] for one in seen)


def test_a_node_with_nobody_in_the_cohort_answers_with_zeros() -> None:
    made = deployed(3)
    made.plan.charge(0)
    made.grid.asked.clear()
    private_sums(made.federation, made.algorithm, made.algorithm.initial(), 0, np.array([0, 3]))
    assert made.grid.asked == [(node, "train") for node in (1000, 1007, 1014)]
    assert made.federation.absences == 0


def test_a_cohort_that_is_not_ascending_and_another_plan_are_refused() -> None:
    made, other = deployed(2), deployed(2)
    with pytest.raises(PrivacyError, match="not ascending"):
        made.federation.clipped_sums(made.algorithm, {}, 0, np.array([3, 3]))
    with pytest.raises(PrivacyError, match="another plan"):
        Coordinator(made.algorithm, made.federation, other.plan)


def gather(grid: MemoryGrid, wanted: int, before=None) -> NodeDirectory:
    messenger = Messenger(grid, poll=0.001)
    return NodeDirectory.gather(messenger, REQUEST, data()[0].catalogue.digest, wanted, 0.05, before)


def test_nodes_are_taken_in_the_order_of_their_shards() -> None:
    made = gather(MemoryGrid.of(hosted(3)[::-1]), 3)
    assert [node.place for node in made.nodes] == [0, 1, 2]
    assert made.ids == [1014, 1007, 1000]
    assert made.users == len(data()[1].train)
    assert gather(MemoryGrid.of(hosted(3)), 3, made.described()).described() == made.described()


def test_nodes_with_data_of_their_own_are_known_again_under_other_ids() -> None:
    small, large = (replace(one, place=-1) for one in (hosted(3)[0], hosted(2)[0]))
    first = gather(MemoryGrid.of([small, large]), 2)
    again = gather(MemoryGrid.of([large, small]), 2, first.described())
    assert [first.ids, again.ids] == [[1000, 1007], [1007, 1000]]


def test_a_silent_stranger_holds_a_round_up_once() -> None:
    made = deployed(3)
    made.grid.nodes[77] = made.grid.nodes[BAD]
    made.grid.twists[77] = lambda *_: None
    made.grid.away.add(BAD)
    directory, messenger = made.federation.directory, made.federation.messenger
    until = messenger.clock() + 0.2
    for _ in range(3):
        directory.welcome(messenger, REQUEST, data()[0].catalogue.digest, until)
    assert made.grid.asked.count((77, "query")) == 1
    assert messenger.counts["no reply"] == 1


def test_nodes_that_cannot_take_part_are_told_in_one_line() -> None:
    one = hosted(2)
    with pytest.raises(InputError, match="two nodes host the same shard"):
        gather(MemoryGrid.of([one[0], one[0]]), 2)
    with pytest.raises(InputError, match="not those that the run began with"):
        gather(MemoryGrid.of(one), 2, [{"place": 0, "users": 3}, {"place": 1, "users": 4}])
    with pytest.raises(TooFewNodes, match="2 of 3 nodes were there"):
        gather(MemoryGrid.of(one), 3)
    grid = MemoryGrid.of(one)
    grid.twists[BAD] = raw("version", 9)
    with pytest.raises(
        TooFewNodes, match=f"1 refused: the other side speaks protocol version 9, this one {wire.VERSION}"
    ):
        gather(grid, 2)
