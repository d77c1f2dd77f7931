"""The features of a history and a candidate, and the head, against plain loops."""

import math

import pytest
import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import DenseMap, FeatureMap, HeadMap, NeighbourMap
from fedrec.kernels.model import KernelModel, weigh
from fedrec.kernels.space import NEGLIGIBLE, SHAPED, KernelSpace, centred_space
from fedrec.kernels.synthetic import feature_scales

ITEMS = 30
DECAYS = (1.0, 0.8, 0.02)
ROWS = [[3, 1, 4, 1, 5, 9, 2, 6], [7], [], [8, 8, 8], list(range(ITEMS))]


def batch(rows: list[list[int]] = ROWS) -> UserBatch:
    return UserBatch(
        items=torch.tensor([item for row in rows for item in row], dtype=torch.int64),
        lengths=torch.tensor([len(row) for row in rows]),
        n_items=ITEMS,
        keys=draws.keys(1, torch.arange(len(rows))),
    )


def maps() -> dict[str, FeatureMap]:
    generator = torch.Generator().manual_seed(0)
    signed = torch.tensor([1.0, -1, 1])
    return {
        "plain": DenseMap(torch.randn(ITEMS, 4, generator=generator)),
        "signed": DenseMap(torch.randn(ITEMS, 3, generator=generator), signed),
        "head": HeadMap(torch.tensor([4, 9, 1, 20]), ITEMS, torch.randn(4, 3, generator=generator), signed),
        "neighbours": neighbours(),
    }


def neighbours() -> NeighbourMap:
    """Each item has the next three for neighbours, the last one of the catalogue none."""
    counts = torch.full((ITEMS,), 3)
    counts[-1] = 0
    columns = (torch.arange(ITEMS - 1)[:, None] + torch.arange(1, 4)) % ITEMS
    values = torch.randn(3 * ITEMS - 3, generator=torch.Generator().manual_seed(2))
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return NeighbourMap(starts, columns.sort(1).values.flatten(), values)


def space(decays: tuple[float, ...] = DECAYS, *, gated: bool = False) -> KernelSpace:
    generator = torch.Generator().manual_seed(1)
    popularity = torch.rand(ITEMS, generator=generator) * 20 + 0.3
    return centred_space(maps(), popularity, torch.randn(ITEMS, 2, generator=generator), decays, gated=gated)


def kernel(map_: FeatureMap) -> Tensor:
    items = torch.arange(ITEMS)
    return map_.against(map_.profile(items, items, torch.ones(ITEMS), ITEMS)[:, None])[:, 0]  # (history, candidate)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("decay", [1.0, 0.95, 0.5, 0.02])
def test_fit_is_a_recency_weighted_sum(decay: float, ordered: bool) -> None:
    public = space((decay,))
    state = public.fit(batch() if ordered else batch().unordered())
    rate = decay if ordered else 1.0
    for user, row in enumerate(ROWS):
        weights = [rate**lag for lag in reversed(range(len(row)))]
        weights = [w if w >= NEGLIGIBLE else 0.0 for w in weights]
        assert float(state["count"][user]) == len(row)
        assert float(state["mass"][user, 0]) == pytest.approx(sum(weights), rel=1e-5)
        habit = sum(w * float(public.log_popularity[i]) for w, i in zip(weights, row, strict=True))
        assert float(state["habit"][user, 0]) == pytest.approx(habit, abs=1e-4)
        for name, map_ in public.maps.items():
            one = map_.profile(torch.arange(ITEMS), torch.arange(ITEMS), torch.ones(ITEMS), ITEMS)
            expected = sum((w * one[i] for w, i in zip(weights, row, strict=True)), torch.zeros(map_.width))
            torch.testing.assert_close(state[f"profile {name}"][user, 0], expected, atol=1e-4, rtol=1e-4)
        for n in range(2):
            best = max((float(public.numbers[i, n]) for i in row), default=-math.inf)
            assert float(state["beyond"][user, n]) == pytest.approx(best)


def test_without_order_the_order_of_events_is_irrelevant() -> None:
    public = space()
    turned = [row[::-1] for row in ROWS]
    plain, other = (public.features(public.fit(batch(rows).unordered())) for rows in (ROWS, turned))
    torch.testing.assert_close(plain, other, atol=1e-4, rtol=1e-4)
    assert (public.features(public.fit(batch(ROWS))) - public.features(public.fit(batch(turned)))).abs().max() > 0.1


def test_kernel_features_are_mean_kernel_values_less_those_of_the_average_history() -> None:
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(ITEMS, generator=generator) * 20 + 0.3
    share = share / share.sum()
    public = space()
    features = public.features(public.fit(batch()))
    assert features.shape == (len(ROWS), ITEMS, len(public.names))
    for position, (name, map_) in enumerate(public.maps.items()):
        values = kernel(map_)
        for column, decay in enumerate(DECAYS):
            place = public.own + position * len(DECAYS) + column
            assert public.names[place] == f"{name} @{decay:g}"
            for user, row in enumerate(ROWS):
                expected = torch.zeros(ITEMS)
                if row:
                    weights = torch.tensor([decay**lag for lag in reversed(range(len(row)))])
                    expected = (weights @ values[row]) / weights.sum()
                    if not isinstance(map_, HeadMap | NeighbourMap):  # these are not centred
                        expected = expected - share @ values
                torch.testing.assert_close(features[user, :, place], expected, atol=1e-4, rtol=1e-3)


def test_the_parts_of_the_average_history_add_up() -> None:
    popularity = torch.rand(ITEMS, generator=torch.Generator().manual_seed(2)) + 0.1
    numbers = torch.zeros(ITEMS, 0)
    whole = centred_space(maps(), popularity, numbers, DECAYS)
    pieces = centred_space(maps(), popularity, numbers, DECAYS, chunk=7)
    for name, mean in whole.means.items():
        torch.testing.assert_close(pieces.means[name], mean)


def test_number_features_tell_the_top_tenth_and_what_lies_beyond_the_history() -> None:
    public = space()
    features = public.features(public.fit(batch()))
    for n in range(2):
        top = public.names.index(f"top of number {n}")
        values = public.numbers[:, n]
        assert features[0, :, top].sum() == 3
        assert torch.equal(features[0, :, top].topk(3).indices.sort().values, values.topk(3).indices.sort().values)
        for user, row in enumerate(ROWS):
            expected = torch.tensor([all(v > values[i] for i in row) for v in values]).float()
            assert torch.equal(features[user, :, top + 1], expected)


@pytest.mark.parametrize("constant", [1.0, 2.5])
@pytest.mark.parametrize("items", [1, 2, 30])
def test_a_popularity_that_tells_nothing_is_no_feature(constant: float, items: int) -> None:
    public = centred_space({}, torch.full((items,), constant), torch.zeros(items, 0), (1.0,))
    assert torch.equal(public.log_popularity, torch.zeros(items))


def linear(public: KernelSpace) -> KernelModel:
    return KernelModel(public, torch.randn(len(public.names), generator=torch.Generator().manual_seed(3)))


def networked(public: KernelSpace) -> KernelModel:
    generator = torch.Generator().manual_seed(4)
    width = len(public.names)
    network = {
        "scales": torch.rand(width, generator=generator) + 0.5,
        "hidden": torch.randn(width, 3, generator=generator),
        "bias": torch.randn(3, generator=generator),
        "output": torch.randn(3, generator=generator),
    }
    return KernelModel(public, linear(public).weights, network)


CANDIDATES = torch.tensor([[0, 5, 5]] * len(ROWS))


@pytest.mark.parametrize("gated", [False, True])
def test_the_linear_shortcut_equals_features_times_weights(gated: bool) -> None:
    public = space(gated=gated)
    model = linear(public)
    state = public.fit(batch())
    expected = public.features(state) @ model.weights
    expected[state["count"] == 0] = public.log_popularity  # nothing is known of these
    torch.testing.assert_close(model.score(state), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(model.score(state, CANDIDATES), expected.gather(1, CANDIDATES), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_the_network_equals_its_formula(gated: bool) -> None:
    public = space(gated=gated)
    model = networked(public)
    state = public.fit(batch())
    features, network = public.features(state), model.network
    expected = torch.zeros(len(ROWS), ITEMS)
    for user in range(len(ROWS)):
        for item in range(ITEMS):
            x = features[user, item]
            scaled = x / network["scales"]
            score = float(x @ model.weights)
            for unit in range(3):
                before = float(scaled @ network["hidden"][:, unit]) + float(network["bias"][unit])
                score += float(network["output"][unit]) * max(before, 0.0)
            expected[user, item] = score
    expected[state["count"] == 0] = public.log_popularity
    torch.testing.assert_close(model.score(state), expected, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(model.score(state, CANDIDATES), expected.gather(1, CANDIDATES), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("make", [linear, networked])
def test_scores_in_pieces_are_the_same(make, monkeypatch: pytest.MonkeyPatch) -> None:
    public = space()
    model = make(public)
    state = public.fit(batch())
    whole, some = model.score(state), model.score(state, CANDIDATES)
    monkeypatch.setattr("fedrec.kernels.model.MOST_AT_ONCE", 100)
    torch.testing.assert_close(model.score(state), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.score(state, CANDIDATES), some, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("make", [linear, networked])
def test_a_restored_model_scores_alike_and_names_its_features(make, gated: bool) -> None:
    model = make(space(gated=gated))
    again = KernelModel.restore(model.tensors(), model.manifest())
    assert torch.equal(again.score(again.fit(batch())), model.score(model.fit(batch())))
    assert again.manifest() == model.manifest()
    assert len(model.manifest()["features"]) == len(model.weights)


def test_a_head_without_a_network_is_linear() -> None:
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.arange(4.0)
    torch.testing.assert_close(weigh(features, weights, {}), (features * weights).sum(-1))


@pytest.mark.parametrize("gated", [False, True])
def test_folding_in_repeats_equals_refitting(gated: bool) -> None:
    public = space(gated=gated)
    rows = [[1, 2], [], [5, 5, 5]]
    state = public.fit(batch(rows))
    for item in (5, 5, 0, 2, 1, 7, 8, 9, 3, 4, 11, 12):  # more than the steps that a gate looks back
        state = public.fold_in(state, torch.full((3,), item))
        rows = [[*row, item] for row in rows]
        again = public.fit(batch(rows))
        assert state.keys() == again.keys()
        for name in state:
            torch.testing.assert_close(state[name], again[name], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("gated", [False, True])
def test_folding_in_without_order_equals_refitting(gated: bool) -> None:
    public = space(gated=gated)
    state = public.fold_in(public.fit(batch([[1, 2], [3]]).unordered()), torch.tensor([4, 5]))
    again = public.fit(batch([[1, 2, 4], [3, 5]]).unordered())
    for name in state:
        torch.testing.assert_close(state[name], again[name], msg=name)


# ---- scales


def test_scales_are_a_function_of_public_inputs() -> None:
    popularity = torch.rand(ITEMS, generator=torch.Generator().manual_seed(1)) * 20 + 0.3
    first, again = (feature_scales(space(), popularity, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (len(space().names),)
    assert not torch.equal(first, feature_scales(space(), popularity, seed=4))
    assert not torch.equal(first, feature_scales(space(), popularity.flip(0), seed=3))


def spread_of(lengths: list[int], popularity: Tensor) -> dict[str, float]:
    """Standard deviation of every scaled feature over users with histories of these lengths, by name."""
    public = space()
    generator = torch.Generator().manual_seed(9)
    users = batch([torch.multinomial(popularity, n, replacement=True, generator=generator).tolist() for n in lengths])
    features = public.features(public.fit(users), users.negatives(50, stream=5))
    spread = (features / feature_scales(public, popularity)).flatten(0, 1).std(0)
    return dict(zip(public.names, spread.tolist(), strict=True))


@pytest.mark.parametrize(("shortest", "longest", "within"), [(5, 500, 0.3), (5, 50, 0.5), (40, 400, 1.3)])
def test_scales_bring_features_to_unit_size(shortest: int, longest: int, within: float) -> None:
    popularity = torch.rand(ITEMS, generator=torch.Generator().manual_seed(1)) * 20 + 0.3
    lengths = [int(shortest * (longest / shortest) ** (n / 199)) for n in range(200)]
    spread = spread_of(lengths, popularity)
    recent = [value for name, value in spread.items() if name.endswith("@0.02")]
    assert max(abs(value - 1) for value in recent) < within
    rare = {name: value for name, value in spread.items() if "number" not in name}  # hardly ever 1 in many events
    assert max(rare.values()) < 2.5, "a feature is blown up where users are of other lengths"


@pytest.mark.parametrize("items", [1, 2])
def test_scales_of_a_tiny_catalogue_are_finite(items: int) -> None:
    popularity = torch.ones(items)
    tiny = centred_space({"k": DenseMap(torch.ones(items, 1))}, popularity, torch.zeros(items, 1), (1.0, 0.5))
    scales = feature_scales(tiny, popularity)
    assert scales.isfinite().all()
    assert (scales > 0).all()


def test_among_far_out_items_popularity_decides_whatever_the_other_weights_of_popularity() -> None:
    """Weights fitted to many items of little popularity do not turn round the few that are known to be popular."""
    items = 3000
    popularity = torch.ones(items)
    popularity[:8] = torch.arange(20.0, 180.0, 20.0).flip(0)
    public = centred_space({}, popularity, torch.zeros(items, 0), (1.0,))
    assert float(public.log_popularity[7]) > SHAPED
    users = UserBatch(torch.tensor([0, 9, 9, 10]), torch.tensor([2, 2]), items, draws.keys(1, torch.arange(2)))
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        weights = torch.randn(len(public.names), generator=generator) * 5
        weights[0] = weights[0].abs() + 0.1
        scores = KernelModel(public, weights).score(public.fit(users))[:, :8]
        assert (scores.diff(dim=1) < 0).all()
