import pytest

from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.content import Content, ContentConfig
from fedrec.data.catalogue import Catalogue, Texts
from fedrec.errors import InputError
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


def test_items_of_one_kind_are_ranked_first() -> None:
    setting = Setting(planted_catalogue(), users=10, expected_cohort=10.0)
    model = Content(ContentConfig(), setting).release({})
    items, _ = model.recommend(batch_of([[0, 4, 8]]), 7)
    assert {int(item) % GROUPS for item in items[0]} == {0}
    assert not list(Content(ContentConfig(), setting).queries(0))
