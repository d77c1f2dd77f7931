"""Gates against a plain loop, on the server's side and on a device without torch; and older models without them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from fedrec.data.users import UserBatch
from fedrec.kernels.gates import MOST, STEPS, gated_columns
from fedrec.kernels.model import KernelModel
from fedrec.kernels.space import KernelSpace
from fedrec.recommend.device_form import device_form
from fedrec.recommend.device_lists import history_of
from tests.core.kernels.test_space import DECAYS, ITEMS, ROWS, batch, kernel, linear, networked, space

LONG = [*ROWS, [3, 1, 2] * 6]


def by_loop(public: KernelSpace, row: list[int]) -> list[float]:
    """Mean centred value of the newest steps over the kernel's size, moved and cut."""
    found = []
    assert public.sizes is not None
    for number, (name, map_) in enumerate(public.maps.items()):
        rows = map_.rows(torch.arange(ITEMS))
        centred = kernel(map_) - (rows @ public.means[name])[None]
        values = [float(centred[a, b]) for a, b in pairwise(row)][-STEPS:]
        mean = sum(values) / len(values) if values else float(public.sizes[number]) / 2  # a gate of 0
        found.append(max(-MOST, min(MOST, 2 * mean / float(public.sizes[number]) - 1)))
    return found


def test_a_gate_is_the_mean_of_the_newest_steps() -> None:
    public = space(gated=True)
    found = public.gates(public.fit(batch(LONG)))
    expected = torch.tensor([by_loop(public, row) for row in LONG])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert bool((found[[1, 2]] == 0).all())  # one event, and none: no step
    assert found.abs().max() > 0.1


def test_without_order_gates_are_zero() -> None:
    public = space(gated=True)
    assert not public.gates(public.fit(batch(LONG).unordered())).any()
    rows = batch(LONG)
    tied = torch.tensor([True] + [False] * (len(LONG) - 1))
    some = public.gates(public.fit(UserBatch(rows.items, rows.lengths, ITEMS, rows.keys, tied=tied)))
    assert not some[0].any()
    assert bool((some[1:] == public.gates(public.fit(rows))[1:]).all())
    assert gated_columns((1.0,)) == ()
    assert space((1.0,), gated=True).names == space((1.0,)).names


def test_gated_features_are_features_times_the_gate() -> None:
    public = space(gated=True)
    state = public.fit(batch(LONG))
    features, gates = public.features(state), public.gates(state)
    for number, name in enumerate(public.maps):
        for decay in (DECAYS[1], DECAYS[2]):
            plain = features[..., public.names.index(f"{name} @{decay:g}")]
            gated = features[..., public.names.index(f"{name} @{decay:g} x gate")]
            torch.testing.assert_close(gated, plain * gates[:, number, None])


def test_the_size_of_a_kernel_is_the_root_mean_square_under_popularity() -> None:
    public = space(gated=True)
    generator = torch.Generator().manual_seed(1)
    mass = torch.rand(ITEMS, generator=generator) * 20 + 0.3
    mass = mass / mass.sum()
    assert public.sizes is not None
    for size, (name, map_) in zip(public.sizes, public.maps.items(), strict=True):
        centred = kernel(map_) - (map_.rows(torch.arange(ITEMS)) @ public.means[name])[None]
        assert float(size) == pytest.approx(float((mass @ centred.square() @ mass).sqrt()), rel=0.03)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("make", [linear, networked])
def test_a_device_without_torch_scores_alike(make, ordered: bool) -> None:
    model = make(space(gated=True))
    users = batch(LONG) if ordered else batch(LONG).unordered()
    wide = model.precise
    expected = wide.score(wide.fit(users))
    form = device_form(model)
    for user in range(len(LONG)):
        history = history_of(users, user)
        state = form.fit(history)
        np.testing.assert_allclose(form.scores(state), expected[user].numpy(), rtol=1e-5, atol=1e-5)
        if len(history):  # an added event gives the bits of a new fit
            again = form.record(form.fit(history.without(int(history.items[-1]))), int(history.items[-1]))
            fresh = form.fit(again.history)
            assert all((again.sums[name] == value).all() for name, value in fresh.sums.items())
            shares = form.attribute(state, 7)  # refuses shares that miss the score
            assert shares.gap < 1e-9


def test_an_older_model_without_gates_scores_as_before() -> None:
    model = linear(space())
    assert "sizes" not in model.tensors()
    assert "gates" not in model.manifest()
    again = KernelModel.restore(model.tensors(), {name: model.manifest()[name] for name in ("kernels", "decays")})
    state = again.fit(batch())
    assert "steps" not in state
    assert torch.equal(again.score(state), model.score(model.fit(batch())))
    form = device_form(again)
    assert "steps" not in form.fit(history_of(batch(), 0)).sums
