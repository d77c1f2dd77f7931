"""Training without torch adds what the torch form adds: popularity bit for bit, als up to the precision of a solve."""

import math

import numpy as np
import pytest
import torch

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.algorithms.als_statistics import GramContribution, ItemStatistics
from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from fedrec.errors import InputError
from fedrec.ondevice.training import integers
from fedrec.ondevice.training.als import GramPart, ItemsPart
from fedrec.ondevice.training.base import DeviceQuery, RunFacts
from fedrec.ondevice.training.discover import training
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.testing.device_training import USERS, DeviceTrainingContract
from fedrec.testing.toy_users import ITEMS, batch_of, planted_catalogue

FACTS = PublicFacts(planted_catalogue(), users=USERS, expected_cohort=USERS, mu=0.5, seed=3)


class TestPopularity(DeviceTrainingContract):
    @pytest.fixture(scope="class", params=[False, True], ids=["unit", "counts"])
    def algorithm(self, request: pytest.FixtureRequest) -> Algorithm:
        return Popularity(PopularityConfig(counts=request.param, clip_norm=3.0), FACTS)


class TestALS(DeviceTrainingContract):
    relative = 2e-5

    @pytest.fixture(scope="class", params=[ALSConfig(dim=4), ALSConfig(dim=3, nu=0.5, items_clip_norm=1.0)])
    def algorithm(self, request: pytest.FixtureRequest) -> Algorithm:
        return ALS(request.param, FACTS)


@pytest.mark.parametrize("private", [True, False])
def test_sizes_that_settings_leave_open_are_those_of_the_torch_form(private: bool) -> None:
    mu = 0.5 if private else math.inf
    made = ALS(ALSConfig(), PublicFacts(planted_catalogue(), users=USERS, expected_cohort=USERS, mu=mu))
    found = training("als", ALSConfig().model_dump(mode="json"), RunFacts(ITEMS, USERS, mu))
    assert found.rounds == made.rounds
    for number in range(made.rounds):
        shapes = [(query.name, tuple(query.shape)) for query in made.queries(number)]
        assert [(query.name, query.shape) for query in found.queries(number)] == shapes


@pytest.mark.parametrize("clip", [0.01, 0.7, 50.0])
def test_equal_vectors_make_equal_integers(clip: float) -> None:
    """A norm may be rounded otherwise in its last bit, and a factor then be one step away."""
    generator = np.random.default_rng(5)
    for _ in range(10):
        vector = generator.normal(0, 1, 6).astype(np.float32)
        items = generator.integers(0, ITEMS, 30)
        tensor, users = torch.from_numpy(vector)[None], batch_of([items.tolist()])
        pairs = [
            (GramContribution(tensor), GramPart(vector), (21,)),
            (ItemStatistics(tensor, users), ItemsPart(vector, items), (ITEMS, 28)),
        ]
        for given, part, shape in pairs:
            lattice = Lattice.of(clip, USERS)
            total = torch.zeros(shape, dtype=torch.int64)
            given.add_to(total, clip_weights(given, clip), lattice)
            found = integers.exact(DeviceQuery("q", shape, clip, 6), part, USERS)
            size = np.maximum(1, np.abs(total.numpy()))
            assert (np.abs(found - total.numpy()) <= np.ceil(size * 2.0**-16)).all()
            if clip == 50.0:
                np.testing.assert_array_equal(found, total.numpy())


def test_settings_of_another_version_are_one_line() -> None:
    with pytest.raises(InputError, match="install the server's fedrec"):
        training("als", {"dim": None}, RunFacts(ITEMS))
