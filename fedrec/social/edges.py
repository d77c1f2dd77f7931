"""Lists of friends for simulations: Last.fm's `user_friends.dat` (HetRec 2011), and edge lists of any origin.

Who knows whom is private data of two people. A simulation may read such a file, since all its data are in one place; a
deployment never does: there, each device knows its own friends alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedrec.errors import InputError

HEADERS = (("userid", "friendid"), ("user_id", "friend_id"), ("source", "target"), ("user", "friend"))
"""First lines that are no edge, in lower case."""
_SEPARATORS = ("\t", ",", ";", " ")


def read_friends(file: Path) -> list[tuple[str, str]]:
    """Read an edge list: two ids a line, separated by a tab, comma, semicolon or space; a header is left out.

    Args:
        file: e.g. `user_friends.dat`, whose header is userID and friendID, and which has each edge twice.

    Returns:
        Each friendship once, its ids in alphabetical order, sorted.

    Raises:
        InputError: for a file that cannot be read, a line without two ids, and a person who is their own friend.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise InputError(f"{file}: the friends cannot be read ({reason})") from None
    found: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        separator = next((each for each in _SEPARATORS if each in line.strip()), "\t")
        ids = [each.strip() for each in line.strip().split(separator)]
        if number == 1 and tuple(each.lower() for each in ids) in HEADERS:
            continue
        if len(ids) != 2 or not all(ids):
            raise InputError(f"{file}, line {number}: two ids make an edge, as in userID and friendID; fix the line")
        one, other = sorted(ids)
        if one == other:
            raise InputError(f"{file}, line {number}: '{one}' is listed as their own friend; remove the line")
        found.add((one, other))
    return sorted(found)


def friends_of(edges: Sequence[tuple[str, str]], users: Sequence[str]) -> list[np.ndarray]:
    """Return each user's friends as positions in `users`, ascending int64; people who are no user are left out.

    Args:
        edges: of `read_friends`.
        users: ids, each once.

    Raises:
        InputError: where no edge is between two of the users.
    """
    places = {user: place for place, user in enumerate(users)}
    found: list[list[int]] = [[] for _ in users]
    for one, other in edges:
        if one in places and other in places:
            found[places[one]].append(places[other])
            found[places[other]].append(places[one])
    if not any(found):
        raise InputError("friends: no edge is between two users of the log; are the ids those of the log?")
    return [np.array(sorted(each), np.int64) for each in found]
