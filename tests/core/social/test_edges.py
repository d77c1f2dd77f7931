"""Lists of friends: HetRec's file, other edge lists, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from fedrec.errors import InputError
from fedrec.social.edges import friends_of, read_friends
from fedrec.social.simulation import worth


def write(folder: Path, text: str) -> Path:
    file = folder / "user_friends.dat"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    "text",
    [
        "userID\tfriendID\r\n2\t275\r\n2\t831\r\n275\t2\r\n831\t2\r\n",
        "\ufeffsource,target\n275,2\n2,831\n",
        "2 275\n\n2 831",
    ],
)
def test_each_friendship_is_read_once(text: str, tmp_path: Path) -> None:
    edges = read_friends(write(tmp_path, text))
    assert edges == [("2", "275"), ("2", "831")]
    found = friends_of(edges, ["831", "2", "275", "7"])
    assert [each.tolist() for each in found] == [[1], [0, 2], [1], []]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\t2\n3\n", "line 2: two ids"),
        ("1\t2\t3\n", "line 1: two ids"),
        ("5,5\n", "their own friend"),
        ("1,\n", "two ids"),
    ],
)
def test_what_is_no_edge_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        read_friends(write(tmp_path, text))


def test_a_missing_file_and_ids_of_another_log_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_friends(tmp_path / "none")
    with pytest.raises(InputError, match="no edge is between two users"):
        friends_of([("1", "2")], ["a", "b"])


def test_a_friend_who_likes_the_target_brings_it_and_a_user_without_friends_stays(tmp_path: Path) -> None:
    """The user likes three groups of eight items, and the target's least; the friend likes that group alone."""
    rows = np.repeat(np.diag([1, 1, 1, 1, 0.9]), 8, 0)
    edges = read_friends(write(tmp_path, "userID\tfriendID\na\tb\n"))
    known = [np.array([0, 8, 32]), np.array([0, 33]), np.array([0, 8, 32])]
    targets, given = np.array([39, 16, 39]), [known[0], np.arange(32, 38), known[2]]
    found = worth(rows, known, targets, given, friends_of(edges, ["a", "b", "c"]), 100.0)
    assert (found.alone, found.shared, found.clear) == (0.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
