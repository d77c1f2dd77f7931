"""EASE beyond the items whose table is inverted: the tail, as far as the head explains it.

With A the table plus its penalty, in blocks of the head H and the tail T, and the pairs within the tail left out:

| block | weights |
|---|---|
| history in H, candidate t in T | R_t = A_tH inv(A_HH): a ridge regression of t on the head |
| history t in T, candidate h in H | R_th / (D_t inv(A_HH)_hh), with D_t = A_tt - R_t A_Ht: what the head leaves of t |
| both in T | 0; their lift and cosine remain |

That is Schur's complement with a diagonal in place of the tail's own block. Its cost grows with the entries of A_TH
times the head, not with the cube of the catalogue.
"""

import torch
from torch import Tensor

from fedrec.kernels.pair_table import Pairs, csr

_ENTRIES = 1 << 25  # of the tail's weights in memory


def tail_weights(together: Pairs, inverse: Tensor, penalty: float, known: int, most: int) -> Pairs:
    """Return the weights between the head and the tail, a table without zeros.

    Args:
        together: the table, items from the most popular to the least.
        inverse: of the head's part plus the penalty, (head, head).
        penalty: on the diagonal.
        known: items that count; those from the head to there are the tail.
        most: entries that are kept of a tail item, in each direction.
    """
    head, items, most = len(inverse), together.items, min(most, len(inverse))
    diagonal = together.diagonal() + penalty
    keys, values = [together.keys[:0]], [together.values[:0]]
    for tail in torch.arange(head, max(known, head), device=inverse.device).split(max(1, _ENTRIES // head)):
        if not len(tail):
            continue
        first, end = int(together.starts[tail[0]]), int(together.starts[tail[-1] + 1])
        inside = together.columns[first:end] < head
        rows, columns = together.rows[first:end][inside] - tail[0], together.columns[first:end][inside]
        given = together.values[first:end][inside]
        weights = csr(rows, columns, given, (len(tail), head)) @ inverse  # (tail, head)
        explained = torch.zeros_like(weights[:, 0]).index_add_(0, rows, given * weights[rows, columns])
        left = (diagonal[tail] - explained).clamp(min=penalty)
        backward = weights / (left[:, None] * inverse.diagonal())
        for table, forward in ((weights, True), (backward, False)):
            found = table.abs().topk(most, dim=1).indices
            one, other = tail[:, None].expand_as(found), found
            keys.append((other * items + one if forward else one * items + other).flatten())
            values.append(table.gather(1, found).flatten())
    order = torch.cat(keys).sort()
    made = Pairs(order.values, torch.cat(values)[order.indices], items)
    return Pairs(made.keys[made.values != 0], made.values[made.values != 0], items)
