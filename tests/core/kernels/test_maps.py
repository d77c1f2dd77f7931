"""Feature maps against explicit items x items matrices."""

import pytest
import torch
from torch import Tensor

from fedrec.kernels.feature_map import DenseMap, FeatureMap, HeadMap, NeighbourMap, SparseMap, restore_map

ITEMS = 30


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense() -> tuple[FeatureMap, Tensor]:
    values = random(ITEMS, 5)
    return DenseMap(values), values @ values.T


def indefinite() -> tuple[FeatureMap, Tensor]:
    values, signs = random(ITEMS, 5), torch.tensor([1.0, -1, 1, -1, 1])
    return DenseMap(values, signs), values @ torch.diag(signs) @ values.T


def head_only() -> tuple[FeatureMap, Tensor]:
    head, values, signs = torch.tensor([7, 2, 29, 11]), random(4, 3), torch.tensor([1.0, -1, 1])
    kernel = torch.zeros(ITEMS, ITEMS)
    kernel[head[:, None], head[None]] = values @ torch.diag(signs) @ values.T
    return HeadMap(head, ITEMS, values, signs), kernel


def sparse() -> tuple[FeatureMap, Tensor]:
    generator = torch.Generator().manual_seed(0)
    columns = torch.stack([torch.randperm(9, generator=generator)[:3] for _ in range(ITEMS)])
    values = torch.rand(ITEMS, 3, generator=generator)
    values[::4, 2] = 0.0  # padding, and items without a word
    values[5] = 0.0
    rows = torch.zeros(ITEMS, 9).scatter_(1, columns, values)
    return SparseMap(columns, values, 9), rows @ rows.T


def neighbours() -> tuple[FeatureMap, Tensor]:
    kernel = random(ITEMS, ITEMS) * (random(ITEMS, ITEMS, seed=1) > 0.8)
    kernel[11] = 0.0  # an item without neighbours
    places = kernel.nonzero()
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), (kernel != 0).sum(1).cumsum(0)])
    return NeighbourMap(starts, places[:, 1], kernel[places[:, 0], places[:, 1]]), kernel


KINDS = [dense, indefinite, head_only, sparse, neighbours]


@pytest.mark.parametrize("kind", KINDS)
class TestFeatureMap:
    owners = torch.tensor([0, 0, 0, 0, 2, 2, 3])  # user 1 has no events
    items = torch.tensor([3, 7, 7, 29, 5, 11, 2])
    weights = torch.tensor([1.0, 0.5, 0.25, 2.0, 1.0, 3.0, 0.1])

    def expected(self, kernel: Tensor) -> Tensor:
        total = torch.zeros(4, ITEMS)
        for owner, item, weight in zip(self.owners, self.items, self.weights, strict=True):
            total[owner] += weight * kernel[item]
        return total

    def profile(self, map_: FeatureMap) -> Tensor:
        return map_.profile(self.owners, self.items, self.weights, 4)

    def test_a_profile_against_every_item(self, kind) -> None:
        map_, kernel = kind()
        profile = self.profile(map_)
        assert profile.shape == (4, map_.width)
        torch.testing.assert_close(map_.against(profile[:, None])[:, 0], self.expected(kernel))

    def test_several_profiles_against_candidates(self, kind) -> None:
        map_, kernel = kind()
        profile = self.profile(map_)
        both = torch.stack([profile, 2 * profile], 1)
        candidates = torch.tensor([[0, 7, 7], [1, 2, 3], [29, 11, 5], [2, 2, 4]])
        expected = self.expected(kernel).gather(1, candidates)
        values = map_.against(both, candidates)
        assert values.shape == (4, 2, 3)
        torch.testing.assert_close(values, torch.stack([expected, 2 * expected], 1))
        torch.testing.assert_close(
            map_.against(both), torch.stack([self.expected(kernel)] * 2, 1) * both.new_tensor([[1.0], [2.0]])
        )

    def test_rows_are_profiles_of_one_event_up_to_the_signs(self, kind) -> None:
        map_, _ = kind()
        items = torch.tensor([7, 5, 0, 29, 7])
        one = map_.profile(torch.arange(5), items, torch.ones(5), 5)
        torch.testing.assert_close(map_.rows(items).abs(), one.abs())

    def test_no_event_gives_zeros(self, kind) -> None:
        map_, _ = kind()
        nothing = torch.zeros(0, dtype=torch.int64)
        assert torch.equal(map_.profile(nothing, nothing, torch.zeros(0), 2), torch.zeros(2, map_.width))

    def test_restored_and_moved_maps_give_the_same_bits(self, kind) -> None:
        map_, _ = kind()
        profile = self.profile(map_)[:, None]
        for again in (restore_map(map_.tensors()), map_.to("cpu")):
            assert type(again) is type(map_)
            assert (again.items, again.width) == (map_.items, map_.width)
            assert torch.equal(self.profile(again)[:, None], profile)
            assert torch.equal(again.against(profile), map_.against(profile))


@pytest.mark.parametrize("opened", [True, False])
def test_few_candidates_meet_neighbours_without_a_profile(monkeypatch: pytest.MonkeyPatch, opened: bool) -> None:
    monkeypatch.setattr("fedrec.kernels.feature_map.DENSE_ITEMS", ITEMS if opened else 0)
    monkeypatch.setattr("fedrec.kernels.feature_map.MOST_NUMBERS", 7)
    map_, kernel = neighbours()
    assert isinstance(map_, NeighbourMap)
    owners, items = torch.tensor([0, 0, 0, 2, 2]), torch.tensor([3, 7, 7, 11, 5])
    weights = torch.tensor([[1.0, 0.5], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0], [0.5, 0.25]])
    candidates = torch.tensor([[0, 7], [1, 2], [29, 5]])
    expected = torch.zeros(3, 2, 2)
    for owner, item, weight in zip(owners, items, weights, strict=True):
        expected[owner] += weight[:, None] * kernel[item, candidates[owner]]
    torch.testing.assert_close(map_.met(owners, items, weights, candidates), expected)
