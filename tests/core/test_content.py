import pytest

from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.content import Content, ContentConfig
from fedrec.algorithms.kernel_rank import KernelRankConfig
from fedrec.data.catalogue import Catalogue, Texts
from fedrec.errors import InputError
from fedrec.settings import Settings, parse
from tests.core.algorithm_contract import AlgorithmContract
from tests.core.toy_users import GROUPS, batch_of, planted_catalogue


class TestContent(AlgorithmContract):
    def make(self, setting: Setting) -> Algorithm:
        return Content(ContentConfig(), setting)


@pytest.mark.parametrize("blocks", [(), (Texts("title", ("alpha", "beta", "gamma")),)], ids=["none", "nothing shared"])
def test_a_catalogue_that_tells_nothing_is_refused(blocks: tuple[Texts, ...]) -> None:
    algo = Content(ContentConfig(), Setting(Catalogue(tuple("abc"), blocks=blocks), users=10, expected_cohort=10.0))
    with pytest.raises(InputError, match="'content' needs public item data") as caught:
        algo.release(algo.initial())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [ContentConfig, KernelRankConfig])
@pytest.mark.parametrize("decays", [[], [-1.0], [0.0], [2.0]])
def test_weights_of_a_history_lie_between_none_and_all(kind: type[Settings], decays: list[float]) -> None:
    with pytest.raises(InputError, match="'decays"):
        parse(kind, {"decays": decays}, "[algorithm]")


def test_items_of_one_kind_are_ranked_first() -> None:
    setting = Setting(planted_catalogue(), users=10, expected_cohort=10.0)
    model = Content(ContentConfig(), setting).release({})
    items, _ = model.recommend(batch_of([[0, 4, 8]]), 7)
    assert {int(item) % GROUPS for item in items[0]} == {0}
    assert not list(Content(ContentConfig(), setting).queries(0))
