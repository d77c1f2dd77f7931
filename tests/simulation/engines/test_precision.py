"""Half precision in the users' computation: where it reaches, that it repeats, and what it leaves alone."""

import numpy as np
import pytest
import torch
from fedrec_sim.engines.in_process import InProcessFederation

from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.kernel_rank import KernelRank, KernelRankConfig
from fedrec.data.histories import Histories
from fedrec.parallel import run_jobs
from fedrec.precision import full_precision, users_precision
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.run.scenario import EngineConfig
from fedrec.testing.toy_users import ITEMS, planted_catalogue, planted_rows
from tests.server.toy import private_sums

CPU = torch.device("cpu")
ONE = torch.full((8, 8), 1 + 2.0**-12)


def test_products_are_coarse_where_asked_and_nowhere_else() -> None:
    with users_precision("bfloat16", CPU):
        assert (ONE @ ONE).dtype == torch.bfloat16
        assert (ONE.double() @ ONE.double()).dtype == torch.float64
        with full_precision(CPU):
            assert (ONE @ ONE).dtype == torch.float32
    assert (ONE @ ONE).dtype == torch.float32


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "high"), ("float32", "highest")])
def test_the_setting_of_products_is_put_back(precision, inside) -> None:
    before = torch.get_float32_matmul_precision()
    with users_precision(precision, CPU):
        assert torch.get_float32_matmul_precision() == inside
    assert torch.get_float32_matmul_precision() == before


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_jobs_are_exact_on_any_number_of_threads() -> None:
    made = torch.zeros(2, 8, 8)

    def job(place: int) -> None:
        made[place] = ONE @ ONE

    with users_precision("bfloat16", CPU):
        run_jobs(job, [(0,), (1,)], CPU)
    assert torch.equal(made, torch.stack([ONE @ ONE] * 2))


def sums(precision, rounds: int = 3, batch_users: int = 7) -> list[torch.Tensor]:
    rows, _ = planted_rows(40)
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    source = Histories(offsets, np.concatenate(rows).astype(np.int32), ITEMS)
    algo = KernelRank(KernelRankConfig(rounds=3), PublicFacts(planted_catalogue(), 40, 40.0, mu=1.0))
    plan = PrivacyPlan.build(
        PrivacyConfig(epsilon=2.0, delta=1e-3), [algo.queries(r) for r in range(algo.rounds)], 40, 5
    )
    federation = InProcessFederation(source, plan, seed=1, batch_users=batch_users, precision=precision)
    shared, found = algo.initial(), []
    for round_index in range(rounds):
        plan.charge(round_index)
        released = private_sums(federation, algo, shared, round_index)
        shared = algo.update(shared, released, round_index)
        found += [release.value for release in released.values()]
    return found


@pytest.fixture(scope="module")
def coarse() -> list[torch.Tensor]:
    return sums("bfloat16")


def test_a_coarse_run_repeats_and_is_near_the_exact_one(coarse: list[torch.Tensor]) -> None:
    again, exact = sums("bfloat16"), sums("float32")
    assert all(torch.equal(a, b) for a, b in zip(coarse, again, strict=True))
    assert all(value.dtype == torch.float32 for value in coarse)
    assert torch.equal(coarse[0], exact[0])  # counts: no product in them
    assert not torch.equal(coarse[2], exact[2])
    assert (coarse[2] - exact[2]).norm() < 0.1 * exact[2].norm()


def test_batches_change_no_bit_in_coarse_precision_either(coarse: list[torch.Tensor]) -> None:
    for one, other in zip(coarse, sums("bfloat16", batch_users=16), strict=True):
        assert torch.equal(one, other)


def test_nodes_of_their_own_are_not_told_a_precision() -> None:
    with pytest.raises(ValueError, match="nodes compute in float32"):
        EngineConfig(name="flower", precision="bfloat16")
