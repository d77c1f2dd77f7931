"""A running server follows its folder of keys: what comes and goes, and what cannot be used."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fedrec_server.pki import key_making, node_limits
from fedrec_server.pki.admission import Listed
from fedrec_server.pki.keyring import Keyring
from fedrec_server.process import link as serving
from fedrec_server.process.link import Door

from fedrec.errors import InputError


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return key_making.make(tmp_path / "keys", [], ["a"], datetime.now(UTC))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names that each request asked the link to keep; it does not answer after "down"."""
    told: list[list[str]] = []

    class Link:
        @staticmethod
        @contextlib.contextmanager
        def at(*_: Any) -> Any:
            if told and told[-1] == ["down"]:
                raise InputError("no answer")
            yield Link()

        def keep(self, keys: dict[str, Any]) -> list[str]:
            told.append(list(keys))
            self.keys = keys
            return [f"{len(keys)} nodes"]

        def nodes(self) -> list[Listed]:
            return [Listed(70 + n, name, "online", key) for n, (name, key) in enumerate(self.keys.items())]

    monkeypatch.setattr(serving, "Admission", Link)
    return told


@pytest.fixture
def door(keyring: Keyring, tmp_path: Path, kept: list[list[str]]) -> Door:
    secret = tmp_path / "secret"
    secret.write_text("s")
    door = Door("127.0.0.1:9", keyring, secret, tmp_path / "limits.json")
    door.keep()
    return door


def test_the_link_is_asked_only_when_a_key_comes_or_goes(door: Door, keyring: Keyring, kept: list[list[str]]) -> None:
    assert door.news() == []
    key_making.add_node(keyring, "b")
    assert door.news() == ["2 nodes"]
    assert door.news() == []
    key_making.remove_node(keyring, "a")
    key_making.add_node(keyring, "a")
    assert door.news() == ["2 nodes"]
    key_making.remove_node(keyring, "b")
    assert door.news() == ["1 nodes"]
    assert kept == [["a"], ["a", "b"], ["a", "b"], ["a"]]


def test_what_is_no_key_changes_nothing_and_is_told_once(door: Door, keyring: Keyring, kept: list[list[str]]) -> None:
    (keyring.nodes_folder / "b.pub").write_text("no key")
    (warning,) = door.news()
    assert warning.startswith("warning: nodes stay as they are: ")
    assert "b.pub" in warning
    assert door.news() == door.news() == []
    (keyring.nodes_folder / "b.pub").unlink()
    assert door.news() == []
    assert kept == [["a"]]


def test_a_folder_that_is_away_sends_nobody_away(door: Door, keyring: Keyring, kept: list[list[str]]) -> None:
    keyring.nodes_folder.rename(keyring.path / "away")
    assert "no such folder" in door.news()[0]
    (keyring.path / "away").rename(keyring.nodes_folder)
    assert door.news() == []
    assert kept == [["a"]]


def test_a_link_that_does_not_answer_is_asked_again(door: Door, keyring: Keyring, kept: list[list[str]]) -> None:
    key_making.add_node(keyring, "b")
    kept.append(["down"])
    assert "no answer" in door.news()[0]
    assert door.news() == []
    kept.pop()
    assert door.news() == ["2 nodes"]


def test_what_nodes_may_claim_follows_the_folder_of_keys(
    door: Door, keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node_limits.published() is None
    monkeypatch.setenv(node_limits.VARIABLE, str(tmp_path / "limits.json"))
    limits = node_limits.published()
    key = keyring.public_keys()["a"].line
    assert limits()[70].model_dump() == {"name": "a", "key": key, "users": 1, "shard": None}
    node_limits.put(keyring, "a", users=500, shard="0/2")
    assert door.news() == ["1 nodes"]
    assert limits()[70].model_dump() == {"name": "a", "key": key, "users": 500, "shard": "0/2"}
    assert (tmp_path / "limits.json").stat().st_mode & 0o777 == 0o600
    key_making.remove_node(keyring, "a")
    door.news()
    assert limits() == {}
    (tmp_path / "limits.json").write_text("[]")
    with pytest.raises(InputError, match="cannot be read"):
        limits()
