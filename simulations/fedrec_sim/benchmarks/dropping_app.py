"""The apps of a deployment whose nodes drop at random stages of a secure sum, and which notes every vector and total.

A node that drops answers nothing more in its round: its process fails at each question until the next round. With a
helper there is one question a round: a node fails before it computes, or after, so that its answer is lost. Before a
masked vector leaves, the node writes it in clear to the folder of the measurement, and the server writes each total. So
the totals are checked against plain sums. A real node or server writes neither.
"""

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_client.app import answer_message
from fedrec_client.helped import Begun
from fedrec_client.masking import Masks
from fedrec_server.app import app as server_app
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from fedrec import wire
from fedrec.run import masked
from fedrec.secagg import HelperServer, Opening, PeerServer, Total, Void
from fedrec.secagg.round import Round

__all__ = ["client_app", "server_app"]

FOLDER, SHARE = "FEDREC_BENCH_FOLDER", "FEDREC_BENCH_SHARE"
"""Environment: folder of vectors and totals; probability that a node drops in a round."""

LOST = "lost"
"""The stage after a node's only answer to a round with a helper."""
HELPED_STAGES = (masked.HELPED, LOST)

client_app = ClientApp()


class Dropped(Exception):
    """The node drops here."""


class Drops:
    """When this node drops.

    A round begins with `advertise`, or with `masked` where its keys were made ahead; with a helper, with `helped`.
    """

    def __init__(self, share: float, draw: random.Random) -> None:
        self._share, self._draw = share, draw
        self._last, self._from = "", len(masked.STAGES)

    def check(self, kind: str) -> None:
        """Raises: Dropped."""
        stages = HELPED_STAGES if kind in HELPED_STAGES else masked.STAGES
        begins = kind in (masked.ADVERTISE, masked.HELPED) or (kind == masked.MASKED and self._last != masked.SHARE)
        self._last = kind
        if begins:
            drops = self._draw.random() < self._share
            self._from = self._draw.randrange(len(stages)) if drops else len(stages)
        if kind in stages and stages.index(kind) >= self._from:
            raise Dropped


_drops = Drops(float(os.environ.get(SHARE, "0")), random.Random())


@client_app.query()
def hello(message: Message, context: Context) -> Message:
    """Return how many users there are here."""
    return answer_message(message, context)


@client_app.train()
def work(message: Message, context: Context) -> Message:
    """Answer a question of a secure sum, or fail."""
    kind = wire.from_record(message.content).kind
    _drops.check(kind)
    reply = answer_message(message, context)
    if kind == masked.HELPED:
        _drops.check(LOST)
    return reply


def note_vectors(folder: Path) -> None:
    """Make this process write the vectors that it masks, and the totals that it unmasks."""
    mask, mask_helped = Masks.masked, Begun.masked
    unmask, open_helped = PeerServer.unmasked, HelperServer.total

    def by_peers(self: Masks, sums: Mapping[str, Any], inbox: bytes) -> bytes:
        found, peer = mask(self, sums, inbox), self._current
        np.save(folder / f"vector-{_name(peer.round)}-{peer.member}.npy", self._layout.vector(sums))
        return found

    def by_helper(self: Begun, sums: Mapping[str, Tensor]) -> bytes:
        found = mask_helped(self, sums)
        np.save(folder / f"vector-{_name(self.round)}-{self.place}.npy", self.layout.vector(sums))
        return found

    def of_peers(self: PeerServer, messages: Any) -> Total | Void:
        return _total(folder, self.round, unmask(self, messages))

    def of_helper(self: HelperServer, opening: Opening) -> Total | Void:
        return _total(folder, self.round, open_helped(self, opening))

    Masks.masked, Begun.masked = by_peers, by_helper  # type: ignore[method-assign]
    PeerServer.unmasked, HelperServer.total = of_peers, of_helper  # type: ignore[method-assign]


def _name(this_round: Round) -> str:
    """Return a name of a round: its run's card, and the number of its charge."""
    return f"{this_round.card.hex()[:16]}.{this_round.number}"


def _total(folder: Path, this_round: Round, found: Total | Void) -> Total | Void:
    if isinstance(found, Total):
        name, ahead = f"total-{_name(this_round)}", this_round.ahead is not None
        written, survivors = folder / f"new-{name}.npz", np.array(found.survivors)
        np.savez(written, vector=found.vector, survivors=survivors, ahead=ahead, bits=this_round.bits)
        written.rename(folder / f"{name}.npz")  # whole, or not there
    return found


if FOLDER in os.environ:
    note_vectors(Path(os.environ[FOLDER]))
