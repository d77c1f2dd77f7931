"""Totals without the noise of server and helper, so that they can be compared with plain sums."""

from pathlib import Path

import numpy as np
from fedrec_server.helper.noise import HelperNoise

from fedrec.secagg import HelperServer, Opening, Total, Void, vectors


def note_helper_noise(folder: Path) -> None:
    """Make this helper's process write the noise that it adds to each opening, by the digest of the request."""
    added = HelperNoise.added

    def noted(self: HelperNoise, opening: Opening, queries, bits: int) -> Opening:
        found = added(self, opening, queries, bits)
        length = sum(query.integers.dimension for query in queries)
        bare, noisy = (vectors.unpack(each.masks, bits, length) for each in (opening, found))
        place = folder / f"noise-{opening.request.hex()}.npy"
        if place.exists() and not np.array_equal(np.load(place), bare - noisy):
            (folder.parent / "log").open("a").write(f"two noises for {opening.request.hex()}\n")
        np.save(place, bare - noisy)
        return found

    HelperNoise.added = noted


def without_noise(folder: Path) -> None:
    """Make this server's process take its own noise and the helper's off each total; before totals are noted."""
    add_noise, total = HelperServer.add_noise, HelperServer.total

    def add(self: HelperServer, noise: np.ndarray) -> None:
        self.noise_of_server = noise
        add_noise(self, noise)

    def bare(self: HelperServer, opening: Opening) -> Total | Void:
        found, bits = total(self, opening), self.round.bits
        if isinstance(found, Void) or not hasattr(self, "noise_of_server"):
            return found
        helpers = np.load(folder / f"noise-{opening.request.hex()}.npy")
        return Total(vectors.reduce(found.vector - self.noise_of_server - helpers, bits), found.survivors)

    HelperServer.add_noise, HelperServer.total = add, bare
