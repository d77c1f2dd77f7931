"""A node's processes: which ends are followed by another start, and which are the end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fedrec_client import hosting
from fedrec_client.hosting import Server, Users, host

from fedrec.errors import InputError
from fedrec.transport.preflight import Unreachable
from fedrec.transport.state import State

WELCOME = "INFO :      SuperNode ID: 7\n"


class Node(SimpleNamespace):
    def news(self) -> str:
        news, self.unread = self.unread, ""
        return news


def node(text: str, code: int | None = None) -> Node:
    return Node(text=text, unread=text, code=code)


def users(code: int | None = None) -> Any:
    return SimpleNamespace(code=code, log="users.log")


def hosted(monkeypatch: pytest.MonkeyPatch, folder: Path, starts: list[Any], patience: float = 100) -> list[str]:
    """What is said until an attempt raises; starts: what each finds, an error of the look before or two processes."""
    said: list[str] = []
    waiting = iter(starts)

    def look(*_: Any) -> None:
        look.found = next(waiting)
        if isinstance(look.found, Exception):
            raise look.found

    monkeypatch.setattr(hosting, "preflight", look)
    monkeypatch.setattr(hosting, "_start", lambda *_: look.found)
    monkeypatch.setattr(hosting.time, "sleep", lambda _: None)
    place = Server("here:1", folder / "ca", folder / "key")
    with pytest.raises(InputError) as caught:
        host(place, Users({}, "a:b"), State(folder / "state"), patience=patience, say=said.append)
    return [*said, f"end: {caught.value}"]


def test_ends_that_may_pass_are_followed_by_another_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    starts = [
        Unreachable("nobody there"),
        (node(WELCOME, 0), users()),
        (node(WELCOME), users(4)),
        (node("ERROR : [code: 2004]\n", 1), users()),
        InputError("another certificate"),
    ]
    said = hosted(monkeypatch, tmp_path, starts)
    assert said[0] == "nobody there; trying again in 1 s"
    assert said[1] == "connected to here:1"
    assert said[2].startswith("the server dropped this connection")
    assert said[4].startswith("the process of the users ended with code 4; see users.log; trying again in 1 s")
    assert "does not admit this node" in said[5]
    assert said[6] == "end: another certificate"


def test_ends_that_do_not_pass_are_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, code, line in (
        ("", 0, "refused this node's signature"),
        ("ERROR : certificate has expired\n", None, "the server's certificate expired"),
        ("ERROR : [code: 2001]\n", 1, "admits only nodes with a registered key"),
    ):
        said = hosted(monkeypatch, tmp_path, [(node(text, code), users())])
        assert len(said) == 1
        assert line in said[0]


def test_patience_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = hosted(monkeypatch, tmp_path, [Unreachable("nobody there")] * 3, patience=0)
    assert said == ["end: nobody there"]
