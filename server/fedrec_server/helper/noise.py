"""The helper's own noise on its half of a secure sum, in runs whose noise server and helper add.

The helper returns masks less noise, so the masks leave it in what the server opens: sum + noise. The server cannot take
it off, whatever it asked, whichever nodes dropped, and whatever users work with it.

The same request must get the same answer, also after a restart, and two draws on one sum would average out. So the
noise follows from a secret of the helper and the digest of the request. Who steals the helper's key can compute it, as
they can open its seeds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedrec.audit.card.card import QueryTerms
from fedrec.audit.log.keys import SigningKey
from fedrec.privacy.discrete.modulus import wrapped
from fedrec.privacy.discrete.skellam import skellam
from fedrec.privacy.discrete.stream import WordStream
from fedrec.run.secure_round import one_vector
from fedrec.secagg import Opening, vectors

_INFO = b"fedrec/helper noise key/v1"


class HelperNoise:
    """The noise of a helper.

    Args:
        key: its own.
    """

    def __init__(self, key: SigningKey) -> None:
        self._secret = key.derived(_INFO)

    def added(self, opening: Opening, queries: Sequence[QueryTerms], bits: int) -> Opening:
        """Return an opening with the whole noise of each sum.

        Args:
            opening: the masks.
            queries: the round's sums as the run card has them, in its order.
            bits: of the modulus of the vector.
        """
        noise = one_vector([(self._drawn(opening.request, query), _bits(query)) for query in queries], bits)
        masks = vectors.unpack(opening.masks, bits, len(noise))
        np.subtract(masks, noise, out=masks)
        return Opening(opening.request, vectors.pack(vectors.reduce(masks, bits), bits))

    def _drawn(self, request: bytes, query: QueryTerms) -> NDArray[np.int64]:
        sent = query.integers
        assert sent is not None  # a card of such a run has them (`fedrec.audit.card.reading`)
        words = WordStream(self._secret, f"{request.hex()}\0{query.name}")
        return wrapped(skellam(sent.share_variance, sent.dimension, words), sent.bits)


def _bits(query: QueryTerms) -> int:
    assert query.integers is not None
    return query.integers.bits
