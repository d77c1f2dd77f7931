"""A node claims more than its key is good for: more users, another node's shard, an unknown key. None is believed."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fedrec_server.flower.messenger import Messenger, TooFewNodes
from fedrec_server.flower.nodes import NodeDirectory
from fedrec_server.pki import key_making, node_limits
from fedrec_server.pki.keyring import Keyring
from fedrec_server.pki.node_limits import Limit, NodeLimit

from fedrec.cli import run as fedrec
from fedrec.errors import InputError
from tests.server.deployed import REQUEST, data, hosted
from tests.server.grid_in_memory import MemoryGrid, with_packet

FIRST, SECOND = 1000, 1007  # two nodes of 75 users
HONEST = {FIRST: NodeLimit(name="a", key="key of a", users=75), SECOND: NodeLimit(name="b", key="key of b", users=75)}


def claims(**facts: object):
    return with_packet(lambda packet: replace(packet, facts={**packet.facts, **facts}))


def gather(grid: MemoryGrid, limits: dict[int, NodeLimit] | None) -> NodeDirectory:
    known = None if limits is None else lambda: limits
    messenger = Messenger(grid, poll=0.001)
    return NodeDirectory.gather(messenger, REQUEST, data()[0].catalogue.digest, 2, 0.05, limits=known)


def test_nodes_within_their_limits_make_the_population() -> None:
    assert gather(MemoryGrid.of(hosted(2)), HONEST).users == 150
    bound = {node: limit.model_copy(update={"shard": f"{n}/2"}) for n, (node, limit) in enumerate(HONEST.items())}
    assert gather(MemoryGrid.of(hosted(2)), bound).users == 150


@pytest.mark.parametrize(
    ("claim", "limits", "line"),
    [
        ({"users": 10**8}, HONEST, "a presence that cannot be"),
        ({"users": 76}, HONEST, "node 'b' says that it hosts 76 users, and its key is good for 75"),
        (
            {},
            HONEST | {SECOND: NodeLimit(name="b", key="key of b")},
            r"hosts 75 users, and its key is good for 1; .*keys node DIR b",
        ),
        ({}, HONEST | {SECOND: NodeLimit(name="b", key="key of b", users=75, shard="0/2")}, "says that it hosts shard"),
        ({"place": -1}, HONEST | {SECOND: NodeLimit(name="b", key="key of b", users=75, shard="1/2")}, "shard -1"),
        (
            {"place": 0},
            HONEST | {FIRST: NodeLimit(name="a", key="key of a", users=75, shard="0/2")},
            "node 'b' says .* shard 0",
        ),
        ({}, {FIRST: HONEST[FIRST]}, "whose key is not in the folder"),
    ],
)
def test_what_a_key_is_not_good_for_is_refused(claim: dict, limits: dict[int, NodeLimit], line: str) -> None:
    grid = MemoryGrid.of(hosted(2))
    grid.twists[SECOND] = claims(**claim)
    with pytest.raises(TooFewNodes, match=line):
        gather(grid, limits)


def test_a_stranger_does_not_take_a_shard_that_is_another_key_s() -> None:
    """The honest node is away for a moment; another one, let in for its own users, says that it is back."""
    grid = MemoryGrid.of(hosted(2))
    bound = {
        FIRST: NodeLimit(name="a", key="key of a", users=75, shard="0/2"),
        SECOND: NodeLimit(name="b", key="key of b", users=75, shard="1/2"),
    }
    directory = gather(grid, bound)
    grid.nodes[5] = grid.nodes[FIRST]
    grid.twists[5] = claims(place=1)
    grid.away.add(SECOND)
    messenger = Messenger(grid, poll=0.001)
    bound[5] = NodeLimit(name="stranger", key="key of stranger", users=75)
    assert directory.welcome(messenger, REQUEST, data()[0].catalogue.digest, messenger.clock() + 0.2) == {0}
    assert directory.ids == [FIRST, SECOND]
    assert messenger.counts["claim"] == 1


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return key_making.make(tmp_path / "keys", [], ["a", "phone.1"], datetime.now(UTC))


def test_a_key_is_good_for_one_user_until_the_operator_says_more(keyring: Keyring, capsys) -> None:
    assert node_limits.read(keyring) == {"a": Limit(), "phone.1": Limit(users=1)}
    assert fedrec(["keys", "node", str(keyring.path), "a", "--users", "500", "--shard", "0/2"]) == 0
    assert fedrec(["keys", "node", str(keyring.path), "phone.1", "--users", "3"]) == 0
    assert node_limits.read(Keyring(keyring.path)) == {"a": Limit(users=500, shard="0/2"), "phone.1": Limit(users=3)}
    assert fedrec(["keys", "show", str(keyring.path)]) == 0
    assert "at most 500 users, shard 0/2" in capsys.readouterr().out
    assert fedrec(["keys", "node", str(keyring.path), "b", "--users", "9"]) == 0  # a new key, and its limit
    assert node_limits.read(keyring)["b"] == Limit(users=9)
    key_making.remove_node(keyring, "a")
    key_making.add_node(keyring, "a")  # another key under an old name inherits nothing
    assert node_limits.read(keyring)["a"] == Limit()
    assert fedrec(["keys", "init", str(keyring.path.with_name("more")), "--node", "x", "--users", "7"]) == 0
    assert node_limits.read(Keyring(keyring.path.with_name("more")))["x"] == Limit(users=7)


@pytest.mark.parametrize(
    "text", ["a = 3", "[a", '[a]\nusers = "x"', "[a]\nusers = 0", "[a]\nmore = 1", '[a]\nshard = "x"']
)
def test_a_file_of_limits_that_is_damaged_is_one_line(text: str, keyring: Keyring) -> None:
    keyring.limits.write_text(text)
    with pytest.raises(InputError, match=r"nodes\.toml") as caught:
        node_limits.read(keyring)
    assert "\n" not in str(caught.value)


def test_limits_that_cannot_be_are_refused(keyring: Keyring) -> None:
    node_limits.put(keyring, "a", shard="0/2")
    for name, shard, line in (
        ("a", "2/2", "0 <= I < N"),
        ("phone.1", "0/2", "node 'a' already"),
        ("c", None, "no node"),
    ):
        with pytest.raises(InputError, match=line):
            node_limits.put(keyring, name, 5, shard)
    assert node_limits.read(keyring) == {"a": Limit(shard="0/2"), "phone.1": Limit()}


def test_a_number_of_users_that_is_none_is_refused() -> None:
    grid = MemoryGrid.of(hosted(2))
    for odd in (-1, 2**62, 1.5, True, "many"):
        grid.twists[SECOND] = claims(users=odd)
        with pytest.raises(TooFewNodes, match="refused"):
            gather(grid, HONEST)
