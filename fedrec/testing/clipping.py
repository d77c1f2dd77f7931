"""The part of an algorithm's contract that is about adaptive clips: every algorithm can be asked to use them."""

from collections import Counter

import pytest
import torch

from fedrec.algorithms.base import Algorithm, Shared
from fedrec.errors import InputError
from fedrec.federation.adaptive_clipping import FACTORS, QUERY, AdaptiveClipping
from fedrec.privacy.adaptive import ClippingConfig
from fedrec.privacy.clipping import clip_weights
from fedrec.rowwise import rowwise
from fedrec.testing.steps import Steps
from fedrec.testing.toy_users import USERS, batch_of, edge_rows


class ClippingContract(Steps):
    """Part of `AlgorithmContract`."""

    def test_clips_adapt_or_are_refused_in_one_line(self, algo: Algorithm, states: list[Shared]) -> None:
        """Whatever the factor is, no user's integers are longer than the clip, and the users' bits are bounded."""
        config, odd = ClippingConfig(adaptive=True), batch_of(edge_rows())
        if isinstance(algo, AdaptiveClipping):
            return
        times = Counter(query.name for number in range(algo.rounds) for query in algo.queries(number))
        if not {name for name, count in times.items() if count > 1} - algo.fixed_clips.keys():
            with pytest.raises(InputError, match=r"leave privacy\.clipping\.adaptive out$"):
                AdaptiveClipping(algo, config)
            return
        adaptive = AdaptiveClipping(algo, config)
        last = max(number for number in range(adaptive.rounds) if QUERY in {q.name for q in adaptive.queries(number)})
        for factor in (config.smallest, 1.0, config.largest):
            one = torch.full((len(adaptive.adapted),), factor, dtype=torch.float64)
            shared = states[last] | {FACTORS: one}
            assert not adaptive.fault(shared, last)
            with rowwise(odd.device):
                parts = adaptive.contribute(shared, odd, last)
                for query in adaptive.queries(last):
                    lattice, part = query.lattice(USERS), parts[query.name]
                    assert part.packed == query.packed
                    weights = clip_weights(part, query.clip_norm)
                    for row in range(len(odd)):
                        alone, total = torch.zeros_like(weights), torch.zeros(query.shape, dtype=torch.int64)
                        alone[row] = weights[row]
                        part.add_to(total, alone, lattice)
                        assert query.decode(total, lattice).norm() <= query.clip_norm * (1 + 1e-12), (query.name, row)
