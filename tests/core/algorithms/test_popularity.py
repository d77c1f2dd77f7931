import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.popularity import Popularity, PopularityConfig, PopularityModel
from fedrec.data.catalogue import Catalogue
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import batch_of


class TestPopularity(AlgorithmContract):
    learns_taste = False

    def make(self, facts: PublicFacts) -> Algorithm:
        return Popularity(PopularityConfig(), facts)

    def test_without_noise_it_ranks_by_weighted_counts(self) -> None:
        rows = [[3], [3, 5], [3, 5, 9, 11], [5, 3, 3], [9]]
        algo = self.make(self.facts())
        model = algo.release(self.train(algo, batch_of(rows)))
        items, scores = model.recommend(batch_of([[], [3]]), 2)
        assert items.tolist() == [[3, 5], [5, 9]]
        half = 0.5**0.5
        torch.testing.assert_close(scores[0], torch.tensor([1.5 + 2 * half, 0.5 + 2 * half]))

    @pytest.mark.parametrize("items", [1, 2])
    def test_a_catalogue_of_a_few_items(self, items: int) -> None:
        algo = self.make(self.facts(catalogue=Catalogue(tuple(map(str, range(items))))))
        users = batch_of([[], [0], [items - 1] * 4], items=items)
        scores = algo.release(self.train(algo, users, noise=5.0)).score({"count": users.lengths})
        assert scores.shape == (3, items)
        assert scores.isfinite().all()


class TestCounts(AlgorithmContract):
    learns_taste = False

    def make(self, facts: PublicFacts) -> Algorithm:
        return Popularity(PopularityConfig(counts=True, clip_norm=2.0), facts)

    def test_without_noise_it_ranks_by_counts(self) -> None:
        algo = self.make(self.facts())
        model = algo.release(self.train(algo, batch_of([[3], [3, 5], [3, 5, 9, 11], [5, 5, 3, 3], [9]])))
        torch.testing.assert_close(model.scores[[3, 5, 9, 11]], torch.tensor([4.0, 3.0, 2.0, 1.0]))


def test_equal_scores_favour_no_item_by_its_place_in_the_catalogue() -> None:
    model = PopularityModel(torch.zeros(3000))
    users = batch_of([[], [2, 5], []], items=3000)
    items, scores = model.recommend(users, 400)
    assert torch.equal(items[0], items[2]), "the same list for everybody"
    assert torch.equal(items[0], model.recommend(users.slice(0, 1), 400)[0][0])
    assert 1200 < items[0].double().mean() < 1800
    assert abs(float(torch.corrcoef(torch.stack([items[0].double(), torch.arange(400.0).double()]))[0, 1])) < 0.2
    assert not scores.any()
    edge = torch.zeros(3000)
    edge[[7, 9]] = torch.tensor([1.0, 2.0])
    listed = PopularityModel(edge).recommend(users, 5)[0]
    assert listed[0, :2].tolist() == [9, 7]
    assert listed[0, 2:].tolist() == [item for item in items[0].tolist() if item not in (7, 9)][:3]
