"""A node's place among the nodes of a secure sum."""

from fedrec.privacy.shares import Shares
from fedrec.run.masked import Asked
from fedrec.secagg import Roster
from fedrec.wire import WireError


def own_place(public: bytes, asked: Asked, roster: Roster, users: int, shares: Shares) -> int:
    """Return the place of a node in the roster, whose numbers of users can be right.

    Args:
        public: the node's key for masks.
        asked: what the round follows from.
        roster: keys of all nodes.
        users: how many of this node's users are asked.
        shares: of the run. More than `most` users in all would let one node claim the noise of users that the
            population does not have.

    Raises: WireError `roster` where this node, or its number of users, is not in the question, or all nodes together
        have too many.
    """
    if public not in roster.keys:
        raise WireError("roster", "the roster lacks this node's key")
    place = roster.keys.index(public)
    if len(asked.counts) != len(roster.keys):
        raise WireError("roster", f"a roster of {len(roster.keys)} nodes, and numbers of {len(asked.counts)}")
    if asked.counts[place] != users:
        raise WireError("roster", f"{asked.counts[place]} users are stated for this node, and {users} are asked")
    if sum(asked.counts) > shares.most:
        raise WireError("roster", f"{sum(asked.counts)} users are stated in all, and the run has {shares.most}")
    return place
