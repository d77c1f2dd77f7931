"""Users with planted tastes, and the awkward ones: what algorithms are tested on."""

import numpy as np
import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.catalogue import Catalogue, Categories, Numbers
from fedrec.data.people import People
from fedrec.data.users import UserBatch

ITEMS, GROUPS, USERS = 40, 4, 160


def planted_catalogue(items: int = ITEMS) -> Catalogue:
    """Items in GROUPS tastes (item i belongs to taste i mod GROUPS), which the public labels tell as well."""
    taste = np.arange(items) % GROUPS
    return Catalogue(
        ids=tuple(f"item-{i}" for i in range(items)),
        blocks=(
            Categories("taste", tuple(f"taste-{g}" for g in range(GROUPS)), np.eye(GROUPS, dtype=bool)[taste]),
            Numbers("year", 1990.0 + np.arange(items) % 7),
        ),
    )


def batch_of(rows: list[list[int]], seed: int = 7, items: int = ITEMS, device: torch.device | str = "cpu") -> UserBatch:
    """Users with the given histories, oldest event first; times and attributes follow from each row alone.

    Somebody without events, or with 7 as the first one, has no attributes.
    """
    times = [1e9 + 60.0 * place for row in rows for place in range(len(row))]
    return UserBatch(
        items=torch.tensor([item for row in rows for item in row], dtype=torch.int64, device=device),
        lengths=torch.tensor([len(row) for row in rows], dtype=torch.int64, device=device),
        n_items=items,
        keys=draws.keys(seed, torch.arange(len(rows), device=device)),
        times=torch.tensor(times, dtype=torch.float64, device=device),
        people=people_of(rows).to(device),
    )


def people_of(rows: list[list[int]]) -> People:
    """Attributes of users with these histories: the taste of the first event, and a number."""
    known = [row if row and row[0] != 7 else [] for row in rows]
    values = [(row[0] % GROUPS, 20.0 + len(row)) if row else (torch.nan, torch.nan) for row in known]
    labels = tuple(f"taste-{group}" for group in range(GROUPS))
    return People(("likes", "age"), (labels, ()), torch.tensor(values, dtype=torch.float64).view(len(rows), 2))


def planted_rows(users: int = USERS, seed: int = 0) -> tuple[list[list[int]], list[int]]:
    """Histories of one taste each (five of its ten items), every item equally popular; and one held-out item each."""
    generator = np.random.default_rng(seed)
    rows, held_out = [], []
    for user in range(users):
        liked = generator.permutation(np.arange(user % GROUPS, ITEMS, GROUPS))
        rows.append([int(item) for item in liked[:5]])
        held_out.append(int(liked[5]))
    return rows, held_out


def edge_rows() -> list[list[int]]:
    """Ordinary users between the awkward ones: empty, one item, all items, the same item again and again."""
    generator = np.random.default_rng(3)
    rows = [[int(i) for i in generator.choice(ITEMS, n, replace=False)] for n in (3, 9, 17, 6, 9, 9)]
    return [rows[0], [], rows[1], [5], list(range(ITEMS)), rows[2], [4, 4, 4, 9], rows[3], [ITEMS - 1], rows[4]]


def close(left: Tensor, right: Tensor, tolerance: float = 2e-4, slack: float = 0.0) -> bool:
    """Equal up to float32 rounding at the scale of the larger entries, and `slack` besides."""
    scale = max(float(right.double().abs().max()), 1e-6) if right.numel() else 1.0
    return bool((left.double() - right.double()).abs().max() <= tolerance * scale + slack) if right.numel() else True
