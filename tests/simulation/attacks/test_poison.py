"""Colluders: what the clip allows them, a cap on rows, and the exposure that they gain."""

import numpy as np
import pytest
import torch
from fedrec_sim.attacks import poison
from fedrec_sim.attacks.colluders import Replaced, with_crafted_users
from fedrec_sim.attacks.target import load_target

from fedrec.cli import run
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.privacy.row_cap import CappedRows

SMALL = ("data.users=120", "data.items=60", "data.interactions_per_user=8", "algorithm.name=popularity")


def parts(users: int, seed: int = 0) -> DenseContribution:
    return DenseContribution(torch.randn(users, 6, 3, generator=torch.Generator().manual_seed(seed)))


def test_a_message_of_any_norm_moves_a_sum_by_the_clip_and_no_further() -> None:
    query, inner = SumQuery("sum", (6, 3), 2.0, 1.0), parts(4)
    loud = Replaced(inner, torch.tensor([1, 3]), 1e6 * torch.ones(6, 3), query)
    weights, lattice = clip_weights(loud, 2.0), Lattice.of(2.0, 4)
    total = torch.zeros(query.shape, dtype=torch.int64)
    loud.add_to(total, weights, lattice)
    honest = torch.zeros_like(total)
    inner.add_to(honest, clip_weights(inner, 2.0) * torch.tensor([1.0, 0.0, 1.0, 0.0]), lattice)
    moved = float(query.decode(total - honest, lattice).norm())
    assert 2 * 2.0 * 0.999 < moved <= 2 * 2.0


@pytest.mark.parametrize("cap", [1e-3, 0.5, 1.5, 100.0])
def test_a_cap_on_rows_never_lengthens_a_part_and_keeps_integers(cap: float) -> None:
    query, inner = SumQuery("sum", (6, 3), 2.0, 1.0), parts(5)
    inner.values[4] = 0.0
    capped = CappedRows(inner, cap, 5, query)
    assert bool((capped.norms() <= inner.norms() * (1 + 1e-12)).all())
    for row in range(5):
        assert bool((capped.dense(row).norm(dim=1) <= cap * (1 + 1e-6)).all())
        assert bool((capped.dense(row).abs() <= inner.dense(row).abs() * (1 + 1e-6)).all())
    lattice, weights = Lattice.of(2.0, 5), clip_weights(capped, 2.0)
    total = torch.zeros(query.shape, dtype=torch.int64)
    capped.add_to(total, weights, lattice)
    alone = torch.zeros_like(total)
    for row in range(5):
        one = torch.zeros_like(total)
        capped.add_to(one, weights * (torch.arange(5) == row), lattice)
        assert float(query.decode(one, lattice).norm()) <= 2.0
        alone += one
    assert torch.equal(total, alone), "each user's integers depend on that user alone"
    if cap == 100.0:
        whole = torch.zeros_like(total)
        inner.add_to(whole, weights, lattice)
        assert torch.equal(total, whole), "a cap that nobody reaches changes no integer"


def test_messages_raise_the_target_above_honest_code_and_a_cap_lowers_it() -> None:
    target = load_target("quickstart", SMALL, None, 0)
    (free,) = poison.attack(target, fractions=(0.1,))
    (capped,) = poison.attack(target, fractions=(0.1,), row_cap=0.2)
    ranks = {row["strategy"]: float(row["mean_rank"]) for row in free.figures["rows"]}
    assert list(ranks) == ["none", "random", "popular", "gradient"], "popularity has no vectors to align"
    assert ranks["gradient"] < ranks["popular"] < ranks["none"]
    after = {row["strategy"]: float(row["mean_rank"]) for row in capped.figures["rows"]}
    assert after["gradient"] > ranks["gradient"]
    assert not free.accused
    assert free.figures["rows"][1]["colluders"] == 12


def test_crafted_users_have_the_target_and_identities_of_their_own() -> None:
    users = load_target("quickstart", SMALL, None, 0).users
    crowd = with_crafted_users(users, 3, 5, np.arange(20), 0)
    assert len(crowd) == len(users) + 3
    assert all(crowd.row(len(users) + n)[-1] == 5 and len(set(crowd.row(len(users) + n))) == 10 for n in range(3))
    assert crowd.identities is not None
    assert len(set(crowd.identities.tolist())) == len(crowd)


def test_a_cap_without_the_attack_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "attack", "--kind", "self-test", "--row-cap", "0.5"]) == 2
    assert "--row-cap" in capsys.readouterr().err
