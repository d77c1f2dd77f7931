"""A released model whose scores are looked up, and histories from lists: for tests of evaluation."""

from dataclasses import dataclass

import numpy as np
import torch

from fedrec.data.histories import Histories
from fedrec.model import ReleasedModel


@dataclass
class Table(ReleasedModel):
    """Scores looked up: a user's scores are the row of the sum of its items, plus recency when ordered."""

    table: torch.Tensor  # (rows, items)
    kind = "table"

    def fit(self, users):
        total = torch.zeros(len(users), dtype=torch.int64).index_add_(0, users.owners, users.items)
        return {"row": (total + int(users.ordered)) % len(self.table)}

    def score(self, state, candidates=None):
        scores = self.table[state["row"]]
        return scores if candidates is None else scores.gather(1, candidates)

    def fold_in(self, state, items):
        return {"row": (state["row"] + items) % len(self.table)}

    def tensors(self):
        return {"table": self.table}

    @classmethod
    def restore(cls, tensors, manifest):
        return cls(tensors["table"])


def histories(rows: list[list[int]], n_items: int) -> Histories:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Histories(offsets, np.array([i for row in rows for i in row], dtype=np.int32), n_items)
