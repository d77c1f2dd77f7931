"""Shares of a score against slow oracles in PyTorch: an inverse, a graph of features, and integrated gradients."""

import numpy as np
import pytest
import torch

from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.fedncf import FedNCFModel
from fedrec.algorithms.tower_model import RatingTowerModel, SolverConfig, TowerModel
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.model import KernelModel
from fedrec.model import ReleasedModel
from fedrec.ondevice.attribution import Attribution, mean_slope, spaced
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.factors import PopularityForm
from fedrec.ondevice.history import History
from fedrec.ondevice.sequences import LINEAR, SequenceForm
from fedrec.ondevice.source import Source
from fedrec.ondevice.stars import StarsForm
from fedrec.ondevice.tensor_file import HeldTensors
from fedrec.recommend.device_form import device_form
from fedrec.recommend.device_lists import history_of
from tests.core.kernels.test_space import DECAYS, ITEMS, batch, networked, space

HISTORY = [3, 1, 4, 15, 9, 26, 5]


def person(items: list[int] | None = None) -> UserBatch:
    return batch([HISTORY if items is None else items])


def table(seed: int, width: int = 5) -> torch.Tensor:
    return torch.randn(ITEMS, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(model: ReleasedModel, item: int, users: UserBatch | None = None) -> Attribution:
    form = device_form(model)
    return form.attribute(form.fit(history_of(person() if users is None else users, 0)), item)


def average(rows: torch.Tensor) -> torch.Tensor:
    return rows[torch.from_numpy(spaced(ITEMS))].mean(0)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("linear", [True, False])
def test_a_kernel_score_is_a_sum_over_kernels_and_events(linear: bool, ordered: bool, gated: bool) -> None:
    """The features of each event by a loop; hidden units by a midpoint rule through autograd."""
    made = networked(space(gated=gated))
    model = KernelModel(made.space, made.weights, popularity=made.popularity) if linear else made
    wide = model.precise
    assert isinstance(wide, KernelModel)
    users, item = person() if ordered else person().unordered(), 7
    own = wide.space.own
    features = wide.space.features(wide.fit(users))[0]  # (items, K)
    gates = dict.fromkeys(wide.space.maps, 0.0)
    if gated:
        gates = dict(zip(gates, wide.space.gates(wide.fit(users))[0].tolist(), strict=True))
    cells = {}  # (event, kernel) -> its part of the features of the item, less those of the average one
    for name, map_ in wide.space.maps.items():
        start = wide.space.groups[name].start
        for place, event in enumerate(HISTORY):
            part = torch.zeros(features.shape[1], dtype=torch.float64)
            alone = map_.profile(torch.tensor([0]), torch.tensor([event]), torch.ones(1).double(), 1)[0]
            for column, decay in enumerate(DECAYS):
                rate = float(np.float32(decay)) if ordered else 1.0
                weights = [rate**lag for lag in reversed(range(len(HISTORY)))]
                values = map_.against((alone - wide.space.means[name])[None, None])[0, 0]  # (items,)
                met = values[item] - average(values)
                part[start + column] = weights[place] / sum(weights) * met
            for column, decay in enumerate(wide.space.gated):
                part[start + len(DECAYS) + column] = gates[name] * part[start + decay]
            cells[place, name] = part
    low, high = average(features), features[item]
    assert torch.allclose(sum(cells.values())[own:], (high - low)[own:], atol=1e-12)
    slope, steps = torch.zeros_like(low), 1 if linear else 1000
    for step in range(steps):
        point = (low + (step + 0.5) / steps * (high - low)).requires_grad_()
        (one,) = torch.autograd.grad(wide_score(wide, point), point)
        slope += one / steps
    found = shares(model, item, users)
    tolerance = 1e-10 if linear else 5e-3
    for (place, name), part in cells.items():
        assert found.events[name][place] == pytest.approx(float(part @ slope), abs=tolerance)
    assert found.rest["popularity"] == pytest.approx(float(((high - low) * slope)[:8].sum()), abs=tolerance)
    assert found.baseline == pytest.approx(float(wide_score(wide, low)), abs=1e-10)
    assert bool(found.attributed) == (not linear)
    assert found.gap < 1e-12


def wide_score(model: KernelModel, features: torch.Tensor) -> torch.Tensor:
    scores = features @ model.weights
    if not model.network:
        return scores
    net = model.network
    return scores + torch.relu(features / net["scales"] @ net["hidden"] + net["bias"]) @ net["output"]


def test_a_solved_vector_is_split_by_the_inverse() -> None:
    rows = table(0)
    model = ALSModel(rows.float(), (rows.T @ rows).float(), torch.arange(float(ITEMS)), alpha0=0.3, reg=0.01, nu=1.0)
    rows = model.items.double()
    mine = rows[HISTORY]
    ridge = 0.01 * (len(HISTORY) + 0.3 * ITEMS) ** 1.0
    inverse = torch.linalg.inv(mine.T @ mine + 0.3 * model.gram.double() + ridge * torch.eye(5, dtype=torch.float64))
    expected = (inverse @ mine.T).T @ (rows[7] - average(rows))
    assert shares(model, 7).events["taste"] == pytest.approx(expected.numpy(), abs=1e-12)


@pytest.mark.parametrize("steps", [0, 6])
def test_a_tower_is_split_by_decay_and_rating(steps: int) -> None:
    """An event's share is the fall of the score when its label alone becomes 0, with the same matrix."""
    rows, bias = table(1).float(), torch.linspace(2, 4, ITEMS)
    ratings = torch.tensor([1.0, 5, torch.nan, 4, 2, 5, 3])
    for rated in (False, True):
        solver = SolverConfig(
            alpha0=0.0 if rated else 0.2, reg=0.1, decay=1.0 if rated else 0.8, steps=steps, scale=1.5, ratings=rated
        )
        model = (RatingTowerModel if rated else TowerModel)(rows, bias, solver)
        users = person()
        users = UserBatch(users.items, users.lengths, ITEMS, users.keys, ratings=ratings) if rated else users
        found = shares(model, 7, users)
        form = device_form(model)
        state = form.fit(history_of(users, 0))
        for place, event in enumerate(HISTORY):
            label = 1.0 if not rated else float(ratings[place]) - float(bias[event])
            label = 0.0 if np.isnan(label) else label * solver.decay ** (len(HISTORY) - 1 - place)
            less = dict(state.sums) | {"total": state.sums["total"] - label * rows[event].double().numpy()}
            vector = form.solve(less, state.history)["vector"]
            way = (rows[7] - average(rows.double())).double().numpy()
            fall = solver.scale * (state.sums["vector"] - vector) @ way
            assert found.events["taste"][place] == pytest.approx(fall, abs=1e-6)
        assert found.rest["popularity"] == pytest.approx(float(bias[7] - average(bias.double())))


def test_the_units_of_fedncf_are_split_by_integrated_gradients() -> None:
    dim, hidden = 3, 5
    generator = torch.Generator().manual_seed(4)
    network = torch.randn(dim + 2 * dim * hidden + 2 * hidden, generator=generator)
    settings = {"events": 60, "negatives": 4, "steps": 5, "rate": 2.0, "own_steps": 0, "own_rate": 0.0}
    model = FedNCFModel(table(5, 2 * dim).float(), network, torch.arange(float(ITEMS)), settings)
    form = device_form(model)
    state = form.fit(history_of(person(), 0))
    examples = form.drawn(state.history)  # type: ignore[attr-defined]
    rows = form.table.rows(examples.items).astype(np.float64)  # type: ignore[attr-defined]
    parts = np.zeros((len(rows), 2 * dim))
    form.rebuild(rows, examples, parts)  # type: ignore[attr-defined]
    assert parts.sum(0) == pytest.approx(state.sums["private"], abs=1e-12)
    way, steps = torch.from_numpy(state.sums["private"]), 1000
    every = model.table.double()
    pair = torch.stack([every[7], average(every)])[None]
    slope = torch.zeros(2 * dim, dtype=torch.float64)
    for step in range(steps):
        point = (way[None] * (step + 0.5) / steps).requires_grad_()
        item, usual = model.precise.pair_scores(point, network.double()[None], pair)[0]
        slope += torch.autograd.grad(item - usual, point)[0][0] / steps
    pulls = dict(zip(examples.items.tolist(), parts @ slope.numpy(), strict=True))
    found = form.attribute(state, 7)
    assert found.events["taste"] == pytest.approx([pulls[item] for item in HISTORY], abs=5e-3)
    others = sum(value for item, value in pulls.items() if item not in HISTORY)
    assert found.rest["not chosen"] == pytest.approx(others, abs=5e-3)
    assert found.gap < 1e-12


def test_repeats_of_an_item_share_what_the_item_adds() -> None:
    rows = table(0)
    model = ALSModel(rows.float(), (rows.T @ rows).float(), torch.arange(float(ITEMS)), alpha0=0.3, reg=0.01, nu=1.0)
    found = shares(model, 7, person([5, 8, 5])).events["taste"]
    assert found[0] == found[2] != found[1]


def test_a_model_without_a_split_and_an_unknown_item_are_refused() -> None:
    class Unsplit(PopularityForm):
        shares = DeviceModel.shares

    form = Unsplit(np.arange(4.0))
    with pytest.raises(InputError, match="no shares"):
        form.attribute(form.fit(History()), 1)
    with pytest.raises(InputError, match=r"outside 0\.\.3"):
        form.attribute(form.fit(History()), 4)
    for wrong in (float("nan"), float("inf"), 3.1):
        with pytest.raises(InputError, match="miss the score"):
            Attribution(2.0, 1.0, {}, {"popularity": wrong}).checked("any")


def test_a_mean_slope_is_that_of_the_way() -> None:
    start, stop = np.array([-1.0, -1, 2, 2, 0, -1, 1e-300]), np.array([3.0, -2, 1, -2, 0, -1, 2e-300])
    assert mean_slope(start, stop) == pytest.approx([0.75, 0, 1, 0.5, 0, 0, 1])


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("name", ["state-space", "attention", "gru", "convolution"])
def test_sequence_encoders_are_split_by_integrated_gradients(name: str, ordered: bool) -> None:
    """Against differences of the form itself in 60 steps, and for linear encoders against one event at a time."""
    form = sequence_form(name)
    history = History(np.array(HISTORY), ordered=ordered)
    state = form.fit(history)
    found = form.attribute(state, 7)
    way = form.table.rows(np.array([7]))[0] - form.table.rows(spaced(ITEMS)).astype(np.float64).mean(0)
    rows = form.table.rows(np.array(HISTORY)).astype(np.float64)
    inputs = rows if ordered else rows.mean(0, keepdims=True)

    def value(events: np.ndarray) -> float:
        return float(form.scale * form.encode(form.settings, form.own, events) @ way)

    step, steps = 1e-5, 60
    for place in range(len(HISTORY)):
        move = np.zeros_like(inputs)
        move[place if ordered else 0] = rows[place] / (1 if ordered else len(HISTORY))
        points = [(n + 0.5) / steps * inputs for n in range(steps)]
        slopes = [(value(point + step * move) - value(point - step * move)) / (2 * step) for point in points]
        assert found.events["taste"][place] == pytest.approx(np.mean(slopes), abs=1e-3)
        if name in LINEAR:
            assert found.events["taste"][place] == pytest.approx(value(move), abs=1e-12)
    assert bool(found.attributed) == (name not in LINEAR)
    assert found.gap < (1e-12 if name in LINEAR else 1e-4)


def sequence_form(name: str) -> SequenceForm:
    width, draw = 5, np.random.default_rng(3)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "state-space": {"mixing": (2, width, width)},
        "attention": dict.fromkeys(("key", "query", "value", "out"), (width, width)) | {"bias": (4,)},
        "gru": {"of_input": (width, 3 * width), "of_state": (width, 3 * width), "bias": (3 * width,)},
        "convolution": {"filters": (4, width), "mixing": (width, width)},
    }
    own = {each: draw.normal(size=shape) for each, shape in shapes[name].items()}
    encoder = {"name": name, "decays": [1.0, 0.5], "lags": 4, "width": 4}
    tensors = {"items": table(6).float().numpy(), "bias": np.linspace(-1, 1, ITEMS, dtype=np.float32)}
    tensors |= {f"encoder.{each}": value for each, value in own.items()}
    return SequenceForm.open(Source(HeldTensors(tensors)), {"length": 50, "scale": 0.7, "encoder": encoder})


@pytest.mark.parametrize("ordered", [True, False])
def test_expected_stars_are_split_by_rating(ordered: bool) -> None:
    """The vector is an inverse times a sum over ratings, clipped to the scale, less the item's usual stars."""
    rows, bias = table(8, 4).float(), torch.linspace(2, 4, ITEMS)
    settings = {"ridge": 2.0, "decay": 0.5, "low": 1.0, "high": 5.0}
    form = StarsForm.open(Source(HeldTensors({"items": rows.numpy(), "bias": bias.numpy()})), settings)
    ratings = np.array([1.0, 9, np.nan, 4, 2, 5, 3], np.float32)
    found = form.attribute(form.fit(History(np.array(HISTORY), ratings, ordered=ordered)), 7)
    mine, later = rows[HISTORY].double(), [5, 4, 4, 3, 2, 1, 0]
    weights = torch.tensor([0.5**lag if ordered else 1.0 for lag in later], dtype=torch.float64)
    weights[2] = 0.0
    inverse = torch.linalg.inv(mine.T @ (weights[:, None] * mine) + 2 * torch.eye(4, dtype=torch.float64))
    labels = torch.tensor([1.0, 5, 0, 4, 2, 5, 3], dtype=torch.float64) - bias[HISTORY].double()
    expected = weights * labels * (mine @ inverse @ (rows[7] - average(rows.double())))
    assert found.events["taste"] == pytest.approx(expected.numpy(), abs=1e-6)
    assert found.gap < 1e-12
    without = form.attribute(form.fit(History()), 7)
    assert without.events == {}
    assert without.rest["popularity"] == pytest.approx(float(bias[7] - average(bias.double())))
