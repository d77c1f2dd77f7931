import numpy as np
import pytest
import torch

from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.content import Content, ContentConfig, public_order
from fedrec.algorithms.kernel_rank import KernelRankConfig
from fedrec.data.catalogue import Catalogue, Numbers, Texts
from fedrec.errors import InputError
from fedrec.settings import Settings, parse
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import GROUPS, batch_of, planted_catalogue


class TestContent(AlgorithmContract):
    asks_users = False

    def make(self, facts: PublicFacts) -> Algorithm:
        return Content(ContentConfig(), facts)


@pytest.mark.parametrize("blocks", [(), (Texts("title", ("alpha", "beta", "gamma")),)], ids=["none", "nothing shared"])
def test_a_catalogue_that_tells_nothing_is_refused(blocks: tuple[Texts, ...]) -> None:
    algo = Content(ContentConfig(), PublicFacts(Catalogue(tuple("abc"), blocks=blocks), users=10, expected_cohort=10.0))
    with pytest.raises(InputError, match="'content' needs public item data") as caught:
        algo.release(algo.initial())
    assert "\n" not in str(caught.value)


def test_a_new_user_gets_the_public_popularity_and_where_there_is_none_no_item_is_favoured() -> None:
    popularity = Numbers("popularity", np.array([1.0, 9.0, np.nan, 5.0, 5.0, 0.0]))
    catalogue = Catalogue(tuple("abcdef"), blocks=(popularity,))
    assert (-public_order(catalogue)).argsort()[[0, 3, 4, 5]].tolist() == [1, 0, 5, 2]
    plain = Catalogue(tuple(map(str, range(2000))))
    order = public_order(plain)
    place = np.corrcoef(order.numpy(), np.arange(2000))[0, 1]
    assert abs(place) < 0.1
    turned = public_order(Catalogue(plain.ids[::-1]))
    assert torch.equal(turned.flip(0), order), "by the ids, not by their places"


@pytest.mark.parametrize("kind", [ContentConfig, KernelRankConfig])
@pytest.mark.parametrize("decays", [[], [-1.0], [0.0], [2.0]])
def test_weights_of_a_history_lie_between_none_and_all(kind: type[Settings], decays: list[float]) -> None:
    with pytest.raises(InputError, match="'decays"):
        parse(kind, {"decays": decays}, "[algorithm]")


def test_items_of_one_kind_are_ranked_first() -> None:
    facts = PublicFacts(planted_catalogue(), users=10, expected_cohort=10.0)
    model = Content(ContentConfig(), facts).release({})
    items, _ = model.recommend(batch_of([[0, 4, 8]]), 7)
    assert {int(item) % GROUPS for item in items[0]} == {0}
    assert not list(Content(ContentConfig(), facts).queries(0))
