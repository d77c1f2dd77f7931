"""Whom a federation turns away, with Flower's own processes on the loopback: each with one line that says why."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fedrec_server.flower.messenger import Messenger
from fedrec_server.flower.nodes import NodeDirectory, TooFewNodes
from fedrec_server.pki import key_making
from fedrec_server.pki.admission import Admission
from fedrec_server.pki.keyring import Keyring

from fedrec import wire
from fedrec.errors import InputError
from fedrec.transport.preflight import preflight
from fedrec.transport.processes import free_port
from fedrec.transport.refusals import diagnose
from fedrec.wire import Packet
from tests.server.deployed import REQUEST, data, hosted
from tests.server.grid_in_memory import MemoryGrid
from tests.server.real_flower import Process, RealFlower, plaintext, until

NOW = datetime.now(UTC)
WRONG_CLOCK = (
    "import datetime, flwr.supernode.node_auth_http_interceptor as signing; real = signing.now; "
    "signing.now = lambda: real() + datetime.timedelta(seconds={})"
)

REFUSED_TWICE = (
    "import signal, flwr.supercore.exit.signal_handler as handler; leave = handler.flwr_exit; "
    "handler.flwr_exit = lambda **how: (signal.raise_signal(signal.SIGINT), leave(**how))"
)
"""Both threads of a node, its questions and its heartbeat, are refused: the second while the first ends it."""


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """`known` is let in; the others are not."""
    return key_making.make(tmp_path_factory.mktemp("keys") / "keys", [], ["known", "unknown", "later"], NOW)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return key_making.make(tmp_path_factory.mktemp("other") / "keys", [], [], NOW)


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFlower]:
    with RealFlower.below(tmp_path_factory.mktemp("flower")) as flower:
        yield flower


@pytest.fixture(scope="module")
def link(flower: RealFlower, keyring: Keyring) -> tuple[int, Process]:
    port = free_port()
    link = flower.link(keyring, port)
    flower.register(keyring, port, "known")
    return port, link


def with_key(keyring: Keyring, name: str) -> list[str]:
    return [f"--root-certificates={keyring.ca_certificate}", f"--auth-supernode-private-key={keyring.nodes[name][0]}"]


def why(node: Process) -> str:
    """The one line for a node that ended."""
    code = node.ended()
    assert "SuperNode ID" not in node.text
    found = diagnose(node.text, code)
    assert found is not None
    assert "\n" not in found.line
    return found.line


def test_a_node_that_is_let_in_is_refused_nothing(flower, keyring, link) -> None:
    """The positive case of the refusals below; meanwhile a second process with the same key is refused."""
    port, log = link
    preflight(f"127.0.0.1:{port}", keyring.ca_certificate, keyring.nodes["known"][0])
    node = flower.node(port, *with_key(keyring, "known"))
    assert until(lambda: "SuperNode ID" in node.text), node.text
    assert diagnose(node.text, None) is None
    second = flower.node(port, *with_key(keyring, "known"))
    assert "or a node with this key is or was connected" in why(second)
    assert diagnose(second.text, second.ended()).may_pass
    node.stop()
    assert "Activated node_id" in log.text


NODES = {
    "without TLS": ("it speaks TLS alone", ["--insecure", "--max-retries=1"], ""),
    "with an unknown key": ("it does not have its key", ["ca", "unknown"], ""),
    "without a key": ("this node has none", ["ca"], ""),
    "with another authority": ("not signed by --ca", ["other ca", "known"], ""),
    "with a slow clock": ("clock", ["ca", "known"], WRONG_CLOCK.format(-600)),
    "with a fast clock": ("clock", ["ca", "known"], WRONG_CLOCK.format(60)),
}
"""Node -> what is said of it, its options, and what happens before it starts."""


@pytest.fixture(scope="module")
def turned_away(flower, keyring, link, other) -> dict[str, Process]:
    """All of them at once."""
    port, _ = link
    files = {"ca": keyring.ca_certificate, "other ca": other.ca_certificate}

    def option(word: str) -> str:
        if word.startswith("--"):
            return word
        private = keyring.nodes.get(word, (None,))[0]
        return f"--auth-supernode-private-key={private}" if private else f"--root-certificates={files[word]}"

    return {name: flower.node(port, *map(option, words), first=first) for name, (_, words, first) in NODES.items()}


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_turned_away_in_one_line(name, turned_away, link) -> None:
    """Flower's node with a wrong clock prints nothing and ends with exit code 0."""
    assert NODES[name][0] in why(turned_away[name])
    assert turned_away[name].ended() == (0 if "clock" in name else 1)


def test_the_server_says_whom_it_turned_away(turned_away, link) -> None:
    _, log = link
    for node in turned_away.values():
        node.ended()
    assert log.text.count("[ApiError:2004]") >= 1
    assert log.text.count("[ApiError:2001]") == 1
    assert log.text.count("Activated node_id") <= 1  # `known`, by the test above


def test_plaintext_gets_no_answer(link) -> None:
    port, log = link
    assert plaintext(port) == b""
    assert "/v1/plaintext" not in log.text


def test_another_authority_is_seen_before_the_node_starts(link, other) -> None:
    port, _ = link
    with pytest.raises(InputError, match="not signed by"):
        preflight(f"127.0.0.1:{port}", other.ca_certificate)


def test_a_server_without_tls_is_refused(flower, keyring) -> None:
    port = free_port()
    open_link = flower.link(None, port)
    with pytest.raises(InputError, match="speaks no TLS"):
        preflight(f"127.0.0.1:{port}", keyring.ca_certificate)
    assert "speaks no TLS" in why(flower.node(port, *with_key(keyring, "known")))
    open_link.stop()


def test_an_expired_certificate_is_refused_by_both_sides(flower, tmp_path: Path) -> None:
    expired = key_making.make(tmp_path / "keys", [], ["known"], NOW - timedelta(days=10), days=5)
    with pytest.raises(InputError, match=r"server\.crt: expired on .*fedrec keys renew"):
        expired.check()
    port = free_port()
    link = flower.link(expired, port)
    with pytest.raises(InputError, match="its certificate expired on"):
        preflight(f"127.0.0.1:{port}", expired.ca_certificate)
    assert "certificate expired" in why(flower.node(port, *with_key(expired, "known")))
    link.stop()


def test_a_node_follows_a_link_that_was_started_again_as_long_as_it_is_let_in(flower, keyring) -> None:
    """A new link lets in the nodes of the folder and no others, under new numbers; the node's process ends."""
    port, keys = free_port(), keyring.public_keys()
    server, key = f"127.0.0.1:{port}", with_key(keyring, "later")

    def started(names: set[str]) -> Process:
        link = flower.link(keyring, port)
        with Admission.at(server, keyring.ca_certificate) as admission:
            assert admission.nodes() == []
            assert len(admission.keep({name: keys[name] for name in names})) == len(names)
            assert {node.name: node.key for node in admission.nodes()} == {name: keys[name] for name in names}
        return link

    def welcomed(first: str = "") -> Process:
        node = flower.node(port, *key, first=first)
        assert until(lambda: "SuperNode ID" in node.text), node.text
        return node

    link, node = started({"known", "later"}), welcomed()
    with Admission.at(server, keyring.ca_certificate) as admission:
        assert {node.name: node.status for node in admission.nodes()}["later"] == "online"
    link.stop()
    link = started({"later"})
    assert node.ended() == 0
    assert diagnose(node.text, 0).may_pass
    node = welcomed(REFUSED_TWICE)
    link.stop()
    link = started({"known"})
    assert node.ended() == 0
    assert "does not have its key" in why(flower.node(port, *key))
    link.stop()
    with (
        pytest.raises(InputError, match="is `fedrec server` running"),
        Admission.at(server, keyring.ca_certificate) as no,
    ):
        no.nodes()


def test_a_node_is_let_in_and_sent_away_while_the_link_runs(flower, keyring) -> None:
    port, keys = free_port(), keyring.public_keys()
    link = flower.link(keyring, port)
    known, both = {"known": keys["known"]}, {"known": keys["known"], "later": keys["later"]}
    with Admission.at(f"127.0.0.1:{port}", keyring.ca_certificate) as admission:
        assert admission.keep(known) == ["node 'known' may come"]
        assert admission.keep(known) == []
        assert admission.keep(both) == ["node 'later' may come"]
        node = flower.node(port, *with_key(keyring, "later"))
        assert until(lambda: "SuperNode ID" in node.text), node.text
        assert admission.keep(known) == ["node 'later' was sent away"]
        assert admission.keep(known) == []
        assert {node.name: node.gone for node in admission.nodes()} == {"known": False, "later": True}
        assert node.ended() == 0
        assert "does not have its key" in why(flower.node(port, *with_key(keyring, "later")))
        assert "start the server again" in admission.keep(both)[0]
    link.stop()


def test_a_node_that_gave_up_says_why_and_ends(flower, keyring, other) -> None:
    """The server comes back under another authority: Flower's own node logs an error, asks no more, and does not end.

    Which error depends on what its last request met, the end of the old server or the new one; the next start is clear.
    """
    port = free_port()
    link = flower.link(keyring, port)
    flower.register(keyring, port, "later")
    node = flower.node(port, *with_key(keyring, "later"))
    assert until(lambda: "SuperNode ID" in node.text), node.text
    link.stop()
    changed = flower.link(other, port)
    assert until(lambda: diagnose(node.text, None) is not None), node.text
    noticed = diagnose(node.text, None)
    assert "not signed by --ca" in noticed.line or ("broke off" in noticed.line and noticed.may_pass)
    assert node.ended() == 1
    assert "not signed by --ca" in why(flower.node(port, *with_key(keyring, "later")))
    changed.stop()


def test_another_version_of_the_protocol_is_refused_by_both_sides(caplog) -> None:
    """Each side hears the other speak the next version: the node answers with a refusal, the server counts none."""
    caplog.set_level(logging.WARNING)
    newer = wire.VERSION + 1

    class OfTheNextVersion:
        def __init__(self, node) -> None:
            self.node = node

        def answer(self, packet: Packet) -> Packet:
            return replace(self.node.answer(replace(packet, version=newer)), version=newer)

    grid = MemoryGrid.of(hosted(1))
    grid.nodes = {name: OfTheNextVersion(node) for name, node in grid.nodes.items()}
    line = f"the other side speaks protocol version {newer}, this one {wire.VERSION}; install the same fedrec"
    with pytest.raises(TooFewNodes, match=f"0 of 1 nodes .*{line}") as caught:
        NodeDirectory.gather(Messenger(grid, poll=0.001), REQUEST, data()[0].catalogue.digest, 1, 0.05)
    assert "\n" not in str(caught.value)
    said = {record.name.split(".")[-1]: record.getMessage() for record in caplog.records if line in record.getMessage()}
    assert len(said) == 2, caplog.text


def test_a_log_without_a_fault_is_refused_nothing() -> None:
    running = "INFO :  Starting Flower SuperNode\nINFO :      SuperNode ID: 7\nWARNING :  Connection attempt failed\n"
    passing = "ERROR :     Failed to send message 17: [code: 2004]\nINFO :      Receiving: train message\n"
    assert diagnose(running + passing, None) is None
    assert diagnose(running, 0, stopped=True) is None
    assert diagnose(running, 0).may_pass, "the link was started again"
    assert not diagnose("INFO :  Starting Flower SuperNode\n", 0).may_pass, "its clock is wrong"
    assert diagnose(running + "ERROR :     Exit Code: 305\nodd\n", 1).may_pass
    assert (
        "gave up (Client error '500" in diagnose(running + "\x1b[91mERROR \x1b[0m:     Client error '500'", None).line
    )
    assert "--port" in diagnose("ERROR: [Errno 98] error while attempting to bind: address already in use", 1).line
    assert "exit code 9" in diagnose(running, 9).line
