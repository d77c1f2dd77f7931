"""The decoder of a generative sequence model: from a prediction to the codes of the next item, level by level.

Source: TIGER (Rajput et al. 2023). Different: codes are residual k-means codes of public vectors. Tables of vectors and
gates of the codes before replace the transformer decoder. Only codes of real items may follow a prefix, and the
released popularity below each is its prior:

    state_l    = prediction * (1 + sum over j < l of prefix_j[code_j])
    p(code_l)  ~ popularity below the prefix * exp(scale * <state_l, table_l[code_l]>)

Tables begin as the centroids of the codes, and gates at one. So the untrained decoder ranks what resembles the
prediction, and without any events the probability of an item is its popularity. A last code, as in the paper, tells
items apart that share all others; its vectors begin at zero.
"""

import torch
from torch import Tensor, nn


class CodeDecoder(nn.Module):
    """The parameters of the decoder.

    Args:
        codes: (items, levels) int64, no two alike.
        tables: for each level (size, d), the initial vectors of its codes.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, tables: list[Tensor]) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.tables = nn.ParameterList(nn.Parameter(table.clone()) for table in tables)
        self.prefixes = nn.ParameterList(nn.Parameter(torch.zeros_like(table)) for table in tables[:-1])

    @property
    def sizes(self) -> list[int]:
        """Different codes of each level."""
        return [len(table) for table in self.tables]
