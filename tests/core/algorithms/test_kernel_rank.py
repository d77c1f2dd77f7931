import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_plan import GRADIENT_CLIP, default_head, parameter_count
from fedrec.algorithms.kernel_rank_settings import SHARES, KernelRankConfig, chosen_shares, default_shares
from fedrec.algorithms.kernel_rank_weights import weighs
from fedrec.data.catalogue import Catalogue, Texts
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_catalogue, planted_rows


def small(**changes: object) -> KernelRankConfig:
    """Few features and few rounds: what a test needs of the defaults."""
    base = {"decays": (1.0, 0.5), "kernel_rank": 8, "head_items": 24, "targets": 2, "negatives": 8, "rounds": 4}
    base |= {"cooccurrence": True}
    return KernelRankConfig.model_validate(base | changes)


class TestLinear(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return KernelRank(small(hidden=0), facts)


class TestWithNetwork(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return KernelRank(small(hidden=4), facts)


class TestWithoutCooccurrence(AlgorithmContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return KernelRank(small(cooccurrence=False), facts)


class TestWithoutMetadata(AlgorithmContract):
    """Co-occurrence and popularity are all that is left."""

    def make(self, facts: PublicFacts) -> Algorithm:
        return KernelRank(small(head_items=ITEMS), facts)

    def facts(self, **changes: object) -> PublicFacts:
        return super().facts(**{"catalogue": Catalogue(tuple(f"item-{i}" for i in range(ITEMS)))} | changes)


CONFIGS = {
    "default": small(),
    "linear": small(hidden=0),
    "network": small(hidden=4),
    "no co-occurrence": small(cooccurrence=False),
    "own shares": small(popularity_share=0.3, weights_share=0.3, cooccurrence_share=0.4),
}


def plain(**changes: object) -> PublicFacts:
    return replace(AlgorithmContract().facts(), **changes)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("metadata", [True, False])
def test_every_round_gives_what_it_asks_for(config: KernelRankConfig, metadata: bool) -> None:
    bare = Catalogue(tuple(map(str, range(ITEMS))))
    facts = plain(mu=0.5) if metadata else plain(mu=0.5, catalogue=bare)
    algo, contract = KernelRank(config, facts), AlgorithmContract()
    users = batch_of(planted_rows()[0])
    spent = 0.0
    for round_index, shared in contract.each_round(algo, users):
        contributions = algo.contribute(shared, users, round_index)
        assert list(contributions) == [query.name for query in algo.queries(round_index)]
        for query in algo.queries(round_index):
            assert contributions[query.name].weighted_sum(torch.ones(len(users))).shape == query.shape
            assert contributions[query.name].norms().max() <= query.clip_norm * (1 + 1e-5), "the clip would cut"
            spent += query.budget_share
    assert spent == pytest.approx(1.0)
    names = [algo.queries(round_index)[0].name for round_index in range(algo.rounds)]
    assert names == ["popularity", *["cooccurrence"] * bool(config.cooccurrence), *["weights"] * 4]


# ---- what follows from the budget and the number of users


@pytest.mark.parametrize(
    ("users", "mu", "cooccurrence", "hidden", "rate"),
    [(6040, 2.0, True, 16, 4.0), (6040, 0.5, True, 0, 0.98), (900, 1.9, True, 0, 0.28), (900, 0.3, False, 0, 0.087)],
)
def test_fewer_users_are_asked_for_less(users: int, mu: float, cooccurrence: bool, hidden: int, rate: float) -> None:
    config = KernelRankConfig(kernel_rank=8)
    chosen = KernelRank(config, plain(users=users, expected_cohort=float(users), mu=mu)).chosen
    assert (chosen["cooccurrence"], chosen["hidden"]) == (cooccurrence, hidden)
    assert chosen["learning_rate"] == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(("users", "hidden"), [(940, 0), (1500, 0), (6040, 16)])
def test_few_users_pay_for_no_hidden_units_without_privacy_either(users: int, hidden: int) -> None:
    """Where the settings ask for what a private run does."""
    asked = KernelRankConfig(kernel_rank=8, cooccurrence=True)
    chosen = KernelRank(asked, plain(users=users, expected_cohort=float(users))).chosen
    assert chosen["hidden"] == hidden


def test_with_nothing_to_weigh_all_the_budget_is_for_popularity() -> None:
    bare = plain(users=500, expected_cohort=500.0, mu=0.3, catalogue=Catalogue(tuple(map(str, range(ITEMS)))))
    algo, contract = KernelRank(KernelRankConfig(), bare), AlgorithmContract()
    assert [query.budget_share for round_index in range(algo.rounds) for query in algo.queries(round_index)] == [1.0]
    users = batch_of(planted_rows()[0])
    shared = contract.train(algo, users, noise=2.0)
    model = algo.release(shared)
    scores = model.score(model.fit(users))
    expected = shared["popularity"].log()
    torch.testing.assert_close(scores, (expected - expected.mean()).expand(len(users), -1), atol=1e-4, rtol=1e-4)


@given(st.floats(1e-4, 1e4), st.booleans())
def test_shares_sum_to_one_for_every_budget(mu: float, content: bool) -> None:
    shares = default_shares(mu, content=content)
    assert sum(shares) <= 1 + 1e-9
    assert all(share > 0 for share in shares)


def test_shares_change_without_a_jump() -> None:
    grid = [1e-3 * 1.002**step for step in range(4600)]
    for low, high in itertools.pairwise(map(default_shares, grid)):
        assert all(abs(a - b) < 0.003 for a, b in zip(low, high, strict=True))
    for mu, shares in SHARES.items():
        assert default_shares(mu) == pytest.approx(shares)
    assert default_shares(math.inf) == default_shares(max(SHARES))


@given(st.floats(1e-3, 1e3), st.floats(0.01, 0.95))
def test_open_shares_divide_what_the_given_ones_leave_as_by_default(strength: float, popularity: float) -> None:
    default = default_shares(strength)
    assert chosen_shares(KernelRankConfig(), strength) == default
    own, weights, cooccurrence = chosen_shares(KernelRankConfig(popularity_share=popularity), strength)
    assert own == popularity
    assert own + weights + cooccurrence == pytest.approx(1.0)
    assert weights / cooccurrence == pytest.approx(default[1] / default[2])
    whole = {"popularity_share": 0.3, "weights_share": 0.3, "cooccurrence_share": 0.4}
    assert chosen_shares(KernelRankConfig(**whole), strength) == (0.3, 0.3, 0.4)


# ---- the ranking weights


def mean_loss(parameters: Tensor, features: Tensor, offsets: Tensor, valid: Tensor, hidden: int) -> Tensor:
    """The slow oracle for one user: mean over targets of -log softmax at the target; features (T, C, K)."""
    width = features.shape[2]
    weights, wide, bias, output = parameters.split([width, width * hidden, hidden, hidden])
    losses = []
    for target in range(len(valid)):
        if valid[target]:
            scores = features[target] @ weights
            if hidden:
                scores = scores + torch.relu(features[target] @ wide.view(width, hidden) + bias) @ output
            scores = scores + offsets[target]
            losses.append(torch.logsumexp(scores, 0) - scores[0])
    return torch.stack(losses).mean() if losses else (parameters * 0).sum()


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_gradient_is_that_of_the_mean_softmax_loss(hidden: int) -> None:
    algo = KernelRank(small(hidden=hidden), plain())
    generator = torch.Generator().manual_seed(0)
    width = algo.plan.features(cooccurrence=True)
    parameters = torch.randn(parameter_count(width, hidden), generator=generator) / 5
    features = torch.randn(6, 3, 5, width, generator=generator) / 5
    valid = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 1]]).bool()
    offsets = torch.randn(6, 3, 5, generator=generator)
    gradient = algo.weights.gradient(parameters, features, offsets, valid)
    norms = []
    for user in range(6):
        leaf = parameters.clone().requires_grad_()
        mean_loss(leaf, features[user], offsets[user], valid[user], hidden).backward()
        norms.append(float(leaf.grad.norm()))
        torch.testing.assert_close(gradient[user], leaf.grad, atol=1e-5, rtol=1e-4)
    assert norms[0] > 0
    assert norms[3] == 0


def test_gradients_are_cut_to_the_clip_save_those_of_cold_logs_without_privacy() -> None:
    gradients = torch.tensor([[0.3, 0.4], [30.0, 40.0], [0.0, 0.0]])
    algo = KernelRank(small(), plain())
    cut = algo.weights.clipped(gradients, {"gradient norm": torch.tensor(0.0)})
    torch.testing.assert_close(cut.norm(dim=1), torch.tensor([0.5, GRADIENT_CLIP, 0.0]))
    assert torch.equal(algo.weights.clipped(gradients, {"gradient norm": torch.tensor(2.0)}), gradients / 2)


@pytest.mark.parametrize(("events", "private", "whole"), [(2, False, True), (2, True, False), (6, False, False)])
def test_which_logs_are_cold(events: int, private: bool, whole: bool) -> None:
    rows = [
        [user % ITEMS, *range(1, events)] if user % 4 == 0 else [user % ITEMS] * (events > 2) for user in range(200)
    ]
    facts = plain(users=200, expected_cohort=200.0, **({"mu": 1000.0} if private else {}))
    algo = KernelRank(small(), facts)
    shared = AlgorithmContract().each_round(algo, batch_of([row if events == 2 else list(range(6)) for row in rows]))
    assert (float(shared[algo.preparation][1]["gradient norm"]) > 0) == whole


@pytest.mark.parametrize("noise", [0.0, 0.5, 50.0])
def test_noise_that_lengthens_histories_makes_no_cold_log_warm(noise: float) -> None:
    """The sum of the roots is below the truth where its noise is two standard deviations above."""
    algo, root = KernelRank(small(), plain()), 1.2
    value = torch.full((ITEMS,), root * algo.facts.expected_cohort / ITEMS) + 2 * noise / ITEMS**0.5
    (stage, *_), release = algo.stages, PrivateSum(value, noise)
    shared = stage.update(algo.initial(), {"popularity": release}, 0)
    assert float(shared["root events"]) == pytest.approx(root, rel=1e-4)
    quiet = stage.update(algo.initial(), {"popularity": PrivateSum(torch.zeros(ITEMS), noise)}, 0)
    assert float(quiet["root events"]) == 0


def test_on_cold_logs_chance_leaves_the_list_at_popularity_and_taste_moves_it() -> None:
    generator = torch.Generator().manual_seed(0)
    likely = torch.arange(1, ITEMS + 1).float()
    kept = []
    for pairs in (
        torch.multinomial(likely.expand(400, -1), 2, generator=generator),
        torch.stack([first := torch.arange(400) % (ITEMS - 1), first + 1], 1),  # what follows is always the next item
    ):
        rows = pairs.tolist() + [[int(row[0])] for row in pairs.repeat(2, 1)]  # two of three have no target
        algo = KernelRank(small(), plain(users=len(rows), expected_cohort=float(len(rows))))
        shared = AlgorithmContract().train(algo, batch_of(rows))
        way = shared["average"] - shared["start"]
        kept.append(float((algo.weights.evident(shared) - shared["start"]).norm() / way.norm()))
    assert kept[0] < 0.5 < kept[1]


@pytest.mark.parametrize("way", [1.0, -1.0])
def test_without_content_weights_move_only_if_a_kernel_attracts(way: float) -> None:
    facts = plain(catalogue=Catalogue(tuple(map(str, range(ITEMS)))))
    algo = KernelRank(small(), facts)
    shared = AlgorithmContract().train(algo, batch_of(planted_rows()[0])) | {"noise": torch.tensor(0.01)}
    moved = torch.zeros_like(shared["start"])
    moved[1], moved[-1] = -5.0, 5.0 * way  # the square of popularity and a kernel, both far beyond the noise
    found = algo.weights.evident(shared | {"average": shared["start"] + moved}) - shared["start"]
    assert (found.abs() > 4).nonzero()[:, 0].tolist() == ([1, len(moved) - 1] if way > 0 else [])
    assert bool(found.any()) == (way > 0)


def test_without_content_a_kernel_is_judged_by_all_its_decays_together() -> None:
    """Without an order they are one feature: each weight may drown in noise that their sum exceeds."""
    facts = plain(catalogue=Catalogue(tuple(map(str, range(ITEMS)))))
    algo = KernelRank(small(), facts)
    shared = AlgorithmContract().train(algo, batch_of(planted_rows()[0])) | {"noise": torch.tensor(0.01)}
    space = algo.features.space(shared)
    turn, many = space.common_first.double(), len(space.decays)
    torch.testing.assert_close(turn.T @ turn, torch.eye(len(turn), dtype=torch.float64), atol=1e-6, rtol=0)
    moved = torch.zeros_like(shared["start"])
    moved[space.own : space.own + many] = 0.018
    found = algo.weights.evident(shared | {"average": shared["start"] + moved}) - shared["start"]
    assert (found[space.own : space.own + many] > 0.002).all()
    one = torch.zeros_like(moved)
    one[space.own] = 0.018  # alone it is chance
    assert not (algo.weights.evident(shared | {"average": shared["start"] + one}) - shared["start"]).any()


def test_without_cooccurrence_its_share_is_divided_as_the_others_are() -> None:
    facts = plain(users=943, mu=0.15)
    algo = KernelRank(KernelRankConfig(cooccurrence=False), facts)
    popularity, weights, _ = algo.shares
    spent = [stage.queries[0].budget_share * stage.rounds for stage in algo.stages]
    assert spent == pytest.approx([popularity / (popularity + weights), weights / (popularity + weights)])


@pytest.mark.parametrize("hidden", [0, 4])
def test_the_head_starts_as_the_logarithm_of_popularity(hidden: int) -> None:
    algo = KernelRank(small(hidden=hidden), plain())
    rows = [[0, 1, 2], [0, 1], [0], [0, 7, 9, 11]]
    shared = AlgorithmContract().each_round(algo, batch_of(rows))[algo.preparation][1]
    model = algo.release(shared)
    scores = model.score(model.fit(batch_of([[7], [3, 9, 20]])))
    expected = shared["popularity"].log()
    torch.testing.assert_close(scores, (expected - expected.mean()).expand(2, -1), atol=1e-4, rtol=1e-4)


def test_users_with_too_few_events_do_not_move_the_weights() -> None:
    algo = KernelRank(small(), plain())
    shared = AlgorithmContract().each_round(algo, batch_of(planted_rows()[0]))[2][1]
    few = batch_of([[], [3], [3, 9], [1, 2, 3], [7, 7], [1, 2, 3, 4]])
    norms = algo.contribute(shared, few, 2)["weights"].norms()
    assert not norms[:2].any()
    assert (norms[[2, 3, 5]] > 0).all(), "users of two events teach what follows one"


def test_what_a_device_remembers_never_changes_what_it_gives() -> None:
    contract, users = AlgorithmContract(), batch_of(planted_rows()[0])
    first, second = (KernelRank(small(), plain(seed=seed)) for seed in (1, 2))
    contract.train(first, users)
    assert users.memory
    fresh = batch_of(planted_rows()[0])
    for round_index, shared in contract.each_round(second, fresh):
        (name,) = second.contribute(shared, users, round_index)
        old = second.contribute(shared, users, round_index)[name].weighted_sum(torch.ones(len(users)))
        new = second.contribute(shared, batch_of(planted_rows()[0]), round_index)[name].weighted_sum(
            torch.ones(len(users))
        )
        assert torch.equal(old, new), round_index


def test_only_the_chosen_teach_and_the_mean_is_theirs() -> None:
    contract, users = AlgorithmContract(), batch_of(planted_rows()[0])
    few = KernelRank(small(weighing_users=len(users) // 2), plain(users=len(users), expected_cohort=float(len(users))))
    assert few.plan.weighing == pytest.approx(0.5, abs=0.01)
    shared = contract.each_round(few, users)[2][1]
    part = few.contribute(shared, users, 2)["weights"]
    rows = weighs(users.keys, few.plan.weighing).nonzero()[:, 0]
    assert 0 < len(rows) < len(users)
    assert torch.equal(part.norms().nonzero()[:, 0], rows), "every planted user has targets"
    assert few.adds(users.keys, 1) is None
    assert torch.equal(few.adds(users.keys, 2).nonzero()[:, 0], rows)
    alone = few.contribute(shared, users.take(rows), 2)["weights"].weighted_sum(torch.ones(len(rows)))
    assert torch.equal(part.weighted_sum(torch.ones(len(users))), alone)
    ones = PrivateSum(torch.ones(few.plan.parameters), 0.5)
    moved = few.update(shared, {"weights": ones}, 2)
    assert float(moved["velocity"][0]) == pytest.approx(0.2 / (len(users) * few.plan.weighing))
    assert float(moved["noise"]) > 0


@pytest.mark.parametrize(
    ("users", "mu", "teach"),
    [(6040, 0.1, 6040), (50_000, math.inf, 50_000), (1_000_000, 2.0, 50_000), (1_000_000, 0.25, 120_800)],
)
def test_many_users_leave_the_weights_to_some(users: int, mu: float, teach: int) -> None:
    plan = KernelRank(small(), plain(users=users, expected_cohort=float(users), mu=mu)).plan
    assert plan.weighing * users == pytest.approx(teach)


def test_the_head_of_many_users_fits_a_message() -> None:
    assert [default_head(10**6, mu) for mu in (0.1, 1.0, math.inf)] == [4000, 4000, 6000]
    assert [default_head(6040, mu) for mu in (0.1, 1.0, math.inf)] == [800, 1500, 2487], "as before"


# ---- small and gappy catalogues


@pytest.mark.parametrize("items", [1, 2, 3])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_catalogue_of_a_few_items(items: int, metadata: bool) -> None:
    catalogue = planted_catalogue(items) if metadata else Catalogue(tuple(map(str, range(items))))
    algo = KernelRank(small(), plain(catalogue=catalogue))
    users = batch_of([[], [0], [0, items - 1] * 5, list(range(items))], items=items)
    shared = AlgorithmContract().train(algo, users, noise=3.0)
    assert all(tensor.isfinite().all() for tensor in shared.values())
    model = algo.release(shared)
    assert model.score(model.fit(users)).shape == (4, items)
    assert model.score(model.fit(users)).isfinite().all()
    assert algo.preparation == (2 if items > 1 else 1)


def test_items_with_missing_metadata() -> None:
    full = planted_catalogue()
    taste, year = full.blocks
    member, values = taste.membership.copy(), year.values.copy()
    member[::3] = False
    values[::2] = math.nan
    titles = Texts("title", tuple("" if i % 2 else f"word{i % 5} other{i % 7}" for i in range(ITEMS)))
    gappy = replace(full, blocks=(replace(taste, membership=member), replace(year, values=values), titles))
    algo = KernelRank(small(), plain(catalogue=gappy))
    shared = AlgorithmContract().train(algo, batch_of(planted_rows()[0]), noise=1.0)
    assert all(tensor.isfinite().all() for tensor in shared.values())
    model = algo.release(shared)
    assert model.score(model.fit(batch_of(edge_rows()))).isfinite().all()


def test_renaming_items_changes_nothing() -> None:
    full = planted_catalogue()
    other = replace(full, ids=tuple(f"{i * 31 % 97}" for i in range(ITEMS)), titles=full.ids)
    users = planted_rows()[0]
    states = [
        AlgorithmContract().train(KernelRank(small(), plain(catalogue=c)), batch_of(users)) for c in (full, other)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
