"""The apps of a deployment whose nodes drop at random stages of a secure sum, and which notes every vector and total.

A node that drops answers nothing more in its round: its process fails at each question until the next round. Before it
masks a vector, it writes it in clear to the folder of the measurement, and the server writes each total. So the totals
are checked against plain sums. A real node or server writes neither.
"""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from fedrec_client.app import answer_message
from fedrec_client.masking import Masks
from fedrec_server.app import app as server_app
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor

from fedrec import wire
from fedrec.run import masked
from fedrec.secagg import PeerServer, Total, Void

__all__ = ["client_app", "server_app"]

FOLDER, SHARE = "FEDREC_BENCH_FOLDER", "FEDREC_BENCH_SHARE"
"""Environment: folder of vectors and totals; probability that a node drops in a round."""

client_app = ClientApp()


class Dropped(Exception):
    """The node drops here."""


class Drops:
    """When this node drops. A round begins with `advertise`, or with `masked` where its keys were made ahead."""

    def __init__(self, share: float, draw: random.Random) -> None:
        self._share, self._draw = share, draw
        self._last, self._from = "", len(masked.STAGES)

    def check(self, kind: str) -> None:
        """Raises: Dropped."""
        begins = kind == masked.ADVERTISE or (kind == masked.MASKED and self._last != masked.SHARE)
        self._last = kind
        if begins:
            drops = self._draw.random() < self._share
            self._from = self._draw.randrange(len(masked.STAGES)) if drops else len(masked.STAGES)
        if kind in masked.STAGES and masked.STAGES.index(kind) >= self._from:
            raise Dropped


_drops = Drops(float(os.environ.get(SHARE, "0")), random.Random())


@client_app.query()
def hello(message: Message, context: Context) -> Message:
    """Return how many users there are here."""
    return answer_message(message, context)


@client_app.train()
def work(message: Message, context: Context) -> Message:
    """Answer a question of a secure sum, or fail."""
    _drops.check(wire.from_record(message.content).kind)
    return answer_message(message, context)


def note_vectors(folder: Path) -> None:
    """Make this process write the vectors that it masks, and the totals that it unmasks."""
    mask, unmask = Masks.masked, PeerServer.unmasked

    def noted(self: Masks, sums: dict[str, Tensor], inbox: bytes) -> bytes:
        found = mask(self, sums, inbox)
        peer = self._current
        np.save(folder / f"vector-{peer.round.number}-{peer.member}.npy", self._layout.vector(sums))
        return found

    def totalled(self: PeerServer, messages: Any) -> Total | Void:
        found = unmask(self, messages)
        if isinstance(found, Total):
            ahead, bits = self.round.ahead is not None, self.round.bits
            np.savez(
                folder / f"total-{self.round.number}.npz",
                vector=found.vector,
                survivors=np.array(found.survivors),
                ahead=ahead,
                bits=bits,
            )
        return found

    Masks.masked, PeerServer.unmasked = noted, totalled  # type: ignore[method-assign]


if FOLDER in os.environ:
    note_vectors(Path(os.environ[FOLDER]))
