"""`kernel-rank` without torch adds what the torch form adds: popularity and pairs bit for bit, gradients nearly."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec import draws
from fedrec.algorithms import kernel_rank_weights
from fedrec.algorithms.base import Algorithm, PublicFacts, Shared
from fedrec.algorithms.kernel_rank import KernelRank
from fedrec.algorithms.kernel_rank_plan import AGAIN, ALL, NEVER, PAIRS
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.data.users import UserBatch
from fedrec.kernels.cooccurrence import LaggedPairs, pairs
from fedrec.kernels.negatives import mixed_negatives
from fedrec.kernels.public import number_scores, public_kernels
from fedrec.ondevice.history import History
from fedrec.ondevice.training import integers
from fedrec.ondevice.training.base import Training
from fedrec.ondevice.training.lagged_pairs import PairsPart
from fedrec.ondevice.training.public_kernels import kernel_count
from fedrec.ondevice.training.public_kernels import number_scores as device_scores
from fedrec.ondevice.training.public_kernels import public_kernels as device_kernels
from fedrec.ondevice.training.ranking import Negatives, weighs
from fedrec.privacy.fixed_point import Lattice
from fedrec.recommend.kernel_items import kernel_items
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.device_training import USERS, DeviceTrainingContract, device_form
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_catalogue, planted_rows

TEXTS = Texts("plot", tuple(f"word{n % 5} tale{n % 7} of item" for n in range(ITEMS)))
CATALOGUE = replace(planted_catalogue(), blocks=(*planted_catalogue().blocks, TEXTS))
FACTS = PublicFacts(CATALOGUE, users=USERS, expected_cohort=USERS, mu=0.5, seed=3)
BARE = replace(FACTS, catalogue=Catalogue(CATALOGUE.ids))
SMALL = {"decays": (1.0, 0.5), "kernel_rank": 8, "head_items": 24, "targets": 2, "negatives": 8, "rounds": 2}


def made(facts: PublicFacts = FACTS, **changes: object) -> KernelRank:
    return KernelRank(KernelRankConfig.model_validate(SMALL | changes), facts)


class KernelRankContract(DeviceTrainingContract):
    relative = 2e-5
    alike = ("popularity", "cooccurrence")


class TestLinear(KernelRankContract):
    @pytest.fixture(scope="class")
    def algorithm(self) -> Algorithm:
        return made(cooccurrence=True, hidden=0)


class TestWithNetwork(KernelRankContract):
    @pytest.fixture(scope="class")
    def algorithm(self) -> Algorithm:
        return made(cooccurrence=True, hidden=4)


class TestWithoutCooccurrence(KernelRankContract):
    @pytest.fixture(scope="class")
    def algorithm(self) -> Algorithm:
        return made(cooccurrence=False)


class TestWithoutContent(KernelRankContract):
    @pytest.fixture(scope="class")
    def algorithm(self) -> Algorithm:
        return made(BARE, cooccurrence=True, hidden=0, head_items=ITEMS)


class TestWithStars(KernelRankContract):
    """Popularity and mean ratings in one sum, bit for bit."""

    @pytest.fixture(scope="class")
    def algorithm(self) -> Algorithm:
        return made(BARE, cooccurrence=False, stars=(1, 5), rounds=1, targets=1)

    def batch(self, rows: list[list[int]]) -> UserBatch:
        return replace(batch_of(rows), ratings=torch.from_numpy(stars_of([item for row in rows for item in row])))

    def person(self, row: list[int]) -> History:
        return replace(super().person(row), ratings=stars_of(row))


def stars_of(items: list[int]) -> np.ndarray:
    """Ratings by item, some unknown, one out of the scale."""
    return np.array([(np.nan, 1.0, 4.0, 9.0, 2.5, 5.0, 3.0)[item % 7] for item in items], np.float32)


class TestWithAChoice(KernelRankContract):
    """Rounds that may ask for popularity again, whatever was chosen."""

    @pytest.fixture(scope="class", params=[NEVER, PAIRS, ALL])
    def choice(self, request: pytest.FixtureRequest) -> int:
        chosen: int = request.param
        return chosen

    @pytest.fixture(scope="class")
    def algorithm(self, choice: int) -> Algorithm:
        found = made(replace(FACTS, mu=1.0))
        assert found.again is not None
        judge = found._judge

        def chosen(shared: Shared, *given: object) -> Shared:
            after = judge(shared, *given)
            kept = {name: part for name, part in after.items() if choice == NEVER or not name.startswith("pilot")}
            return kept | found.again.chosen(choice)

        found._judge = chosen
        return found

    def test_another_choice_is_refused_with_the_words_of_the_torch_form(
        self, algorithm: Algorithm, form: Training, states: list[Shared]
    ) -> None:
        for number in range(algorithm.rounds):
            for value in (None, -1.0, 0.0, 1.0, 2.0, 3.0, np.nan):
                sent = self.sent(algorithm, states[number], number)
                sent.pop(AGAIN, None)
                given = sent if value is None else sent | {AGAIN: np.array(value, np.float32)}
                tensors = {name: torch.from_numpy(part) for name, part in given.items()}
                assert form.fault(given, number) == algorithm.fault(tensors, number)
                if number and form.fault(given, number):
                    with pytest.raises(ValueError, match="the server"):
                        form.parts(given, History(np.array([1, 2])), number)


def test_a_plan_without_a_choice_refuses_one() -> None:
    algorithm = made(cooccurrence=True)
    form = device_form(algorithm)
    given = {AGAIN: np.array(0.0, np.float32)}
    assert form.fault(given, 1) == algorithm.fault({AGAIN: torch.tensor(0.0)}, 1) != ""


def test_the_same_people_teach_the_weights_as_in_the_torch_form() -> None:
    keys = draws.keys(3, torch.arange(400))
    chosen = kernel_rank_weights.weighs(keys, 0.3).nonzero()[:, 0].tolist()
    assert 80 < len(chosen) < 160
    assert chosen == [place for place, key in enumerate(keys.tolist()) if weighs(key & (1 << 64) - 1, 0.3)]
    algorithm = made(cooccurrence=False, weighing_users=USERS // 2)
    form, shared = device_form(algorithm), AlgorithmContract().each_round(algorithm, batch_of(planted_rows()[0]))[1][1]
    sent = {name: tensor.numpy() for name, tensor in algorithm.for_devices(shared, 1).items()}
    for key in keys[:8].tolist():
        (part,) = form.parts(sent, History(np.arange(9), key=key & (1 << 64) - 1), 1).values()
        assert (part.norm() > 0) == weighs(key & (1 << 64) - 1, algorithm.plan.weighing)


def test_negatives_are_those_of_the_torch_form() -> None:
    popularity = torch.linspace(0.3, 9.0, ITEMS)
    for row in edge_rows():
        users: UserBatch = batch_of([row])
        person = History(np.array(row, np.int64), key=int(users.keys[0]) & (1 << 64) - 1)
        expected = mixed_negatives(users, popularity, 20, stream=1)
        found = Negatives.draw(person, popularity.numpy(), 20)
        np.testing.assert_array_equal(found.items, expected.items[0].numpy())
        ratios = expected.log_ratio(expected.items)[0].numpy()
        np.testing.assert_allclose(found.log_ratio(found.items), ratios, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [-1, ITEMS])
def test_a_head_item_outside_of_the_catalogue_is_refused(head: int) -> None:
    form = device_form(made(cooccurrence=True))
    places = np.arange(24)
    places[3] = head
    with pytest.raises(ValueError, match="those that the run has"):
        form.parts({"head": places}, History(np.array([1, 2, 3])), 1)


def test_public_kernels_are_those_of_the_torch_form() -> None:
    draw = np.random.default_rng(1)
    member = draw.random((200, 300)) < 0.05
    years = np.where(draw.random(200) < 0.1, np.nan, draw.normal(2000, 9, 200))
    blocks = (
        Categories("tags", tuple(map(str, range(300))), member),
        Categories("kind", tuple(map(str, range(6))), draw.random((200, 6)) < 0.3),
        Numbers("year", years),
        Texts("plot", tuple(f"word{n % 5} tale{n % 7} of item" for n in range(200))),
    )
    catalogue = Catalogue(tuple(map(str, range(200))), blocks=blocks)
    features = kernel_items(catalogue)
    assert features is not None
    expected, found = public_kernels(catalogue, 16, seed=11).maps, device_kernels(features, 16, seed=11)
    assert list(found) == list(expected)
    assert len(found) == kernel_count(features)
    every = np.arange(200)
    for name, map_ in expected.items():
        rows, mine = map_.rows(torch.from_numpy(every)).double(), found[name].rows(every)
        np.testing.assert_allclose(mine @ mine.T, (rows @ rows.T).numpy(), atol=2e-4, err_msg=name)
    np.testing.assert_allclose(device_scores(features), number_scores(catalogue).numpy(), atol=1e-6)


def test_a_catalogue_with_vectors_has_no_features_for_numpy() -> None:
    catalogue = Catalogue(("a", "b"), blocks=(Vectors("v", np.eye(2, dtype=np.float32)),))
    assert kernel_items(catalogue) is None


ALONE = f"""
import json, sys
from pathlib import Path
import numpy as np
from fedrec.ondevice.history import History
from fedrec.ondevice.kernel_items import KernelItems
from fedrec.ondevice.training import integers
from fedrec.ondevice.training.base import RunFacts
from fedrec.ondevice.training.discover import training

folder = Path(sys.argv[1])
about = json.loads((folder / "about.json").read_text())
features = KernelItems.read(folder / "items.features", about["digest"], {ITEMS})
form = training("kernel-rank", about["settings"], RunFacts({ITEMS}, {USERS}, 0.5, 3, features))
for number in range(form.rounds):
    shared = dict(np.load(folder / f"{{number}}.npz"))
    (query,) = form.queries(number)
    part = form.parts(shared, History(np.arange({ITEMS})), number)[query.name]
    np.save(folder / f"{{number}}.npy", integers.exact(query, part, {USERS}))
print(json.dumps([name for name in ("torch", "flwr", "opacus", "scipy", "polars", "pydantic") if name in sys.modules]))
"""


def test_all_rounds_import_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    algorithm, contract = made(cooccurrence=True, hidden=2), DeviceTrainingContract()
    features = kernel_items(CATALOGUE)
    assert features is not None
    features.write(tmp_path / "items.features")
    about = {"digest": CATALOGUE.digest, "settings": algorithm.config.model_dump(mode="json")}
    (tmp_path / "about.json").write_text(json.dumps(about))
    form, states = device_form(algorithm), contract.run(algorithm, edge_rows())
    for number, shared in enumerate(states):
        np.savez(tmp_path / f"{number}.npz", **contract.sent(algorithm, shared, number))
    done = subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    for number, shared in enumerate(states):
        (query,) = form.queries(number)
        part = form.parts(contract.sent(algorithm, shared, number), History(np.arange(ITEMS)), number)
        found = np.load(tmp_path / f"{number}.npy")
        assert found.any()
        np.testing.assert_array_equal(found, integers.exact(query, part[query.name], USERS))


@pytest.mark.parametrize("ordered", [True, False])
def test_pairs_with_and_without_an_order_are_those_of_the_torch_form(ordered: bool) -> None:
    """More events than the reach of ordered pairs, and repeats."""
    rng = np.random.default_rng(0)
    row, many = np.concatenate([rng.permutation(90), [3, 3]]), 70
    location = np.full(90, -1, np.int64)
    location[rng.permutation(90)[:many]] = np.arange(many)
    users = UserBatch(torch.from_numpy(row), torch.tensor([len(row)]), 90, torch.zeros(1, dtype=torch.int64))
    users = users if ordered else users.unordered()
    exact = Lattice.of(1.0, 10)
    theirs = torch.zeros(pairs(many), dtype=torch.int64)
    LaggedPairs(users, torch.from_numpy(location), many, 0).add_to(theirs, torch.ones(1, dtype=torch.float64), exact)
    own = np.zeros(pairs(many), np.int64)
    PairsPart(row, location, many, 0, ordered=ordered).add_to(own, 1.0, exact)
    assert np.abs(own - theirs.numpy()).max() <= 1
    assert (own > 0).all() != ordered
