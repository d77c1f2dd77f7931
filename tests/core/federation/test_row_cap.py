"""A cap on rows as a setting of a run: the bound holds for any part, sensitivity and price stay, nodes enforce it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fedrec_client.participation import device_spec
from fedrec_server.flower.reply_checks import Expected, checked_sums
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.algorithms.base import Algorithm, PublicFacts
from fedrec.algorithms.popularity import Popularity, PopularityConfig
from fedrec.algorithms.tower_sgd import TowerSGD
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.row_cap import RowCapConfig, RowCapped
from fedrec.federation.spec import parse_spec
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.fixed_point import Lattice
from fedrec.privacy.plan import PrivacyConfig
from fedrec.privacy.queries import DenseContribution, SumQuery
from fedrec.privacy.row_cap import CappedRows, longest_row
from fedrec.run.scenario import load_scenario
from fedrec.settings import parse
from fedrec.testing.sums import SumsContract
from fedrec.testing.toy_users import USERS, batch_of, edge_rows, planted_catalogue
from fedrec.wire import Packet, WireError
from tests.core.federation.test_spec import CATALOGUE, spec

CAP = 0.3


class TestOfPopularity(SumsContract):
    """The inherited tests try to move a computed sum by more than the clip."""

    def make(self, facts: PublicFacts) -> Algorithm:
        return RowCapped(Popularity(PopularityConfig(), facts), RowCapConfig(cap=CAP))


@pytest.mark.slow
class TestOfALS(SumsContract):
    def make(self, facts: PublicFacts) -> Algorithm:
        return RowCapped(ALS(parse(ALSConfig, {"dim": 4, "rounds": 1}, "test"), facts), RowCapConfig(cap=CAP))


QUERY = SumQuery("sum", (5, 2), 2.0, 1.0, row_cap=CAP)


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (2, 5, 2), elements=st.floats(width=32)))
def test_no_row_exceeds_the_cap_no_part_the_clip_and_no_entry_grows(parts: np.ndarray) -> None:
    inner = DenseContribution(torch.from_numpy(parts))
    capped = CappedRows(inner, CAP * 2.0, 2, QUERY)
    weights, lattice = clip_weights(capped, QUERY.clip_norm), QUERY.lattice(2)
    for row in range(2):
        total = torch.zeros(QUERY.shape, dtype=torch.int64)
        capped.add_to(total, weights * (torch.arange(2) == row), lattice)
        moved = QUERY.decode(total, lattice)
        assert float(moved.norm()) <= QUERY.clip_norm
        assert longest_row(moved) <= CAP * QUERY.clip_norm
        assert bool((moved.abs() <= torch.from_numpy(parts[row]).abs() * (1 + 1e-6)).all()) or not weights[row]


def test_foreign_code_that_changes_its_part_between_measurement_and_sum_gains_nothing() -> None:
    class Growing(DenseContribution):
        def dense(self, row: int) -> torch.Tensor:
            self.values = self.values * 100
            return super().dense(row)

    capped = CappedRows(Growing(torch.full((1, 5, 2), 1e-3)), CAP * 2.0, 1, QUERY)
    total = torch.zeros(QUERY.shape, dtype=torch.int64)
    capped.add_to(total, clip_weights(capped, 2.0), Lattice.of(2.0, 1))
    assert float(QUERY.decode(total, Lattice.of(2.0, 1)).norm()) <= 2.0


@pytest.mark.parametrize("kind", [Popularity, ALS, TowerSGD])
def test_price_and_shape_of_a_run_stay(kind: type[Algorithm]) -> None:
    facts = PublicFacts(planted_catalogue(), users=USERS, expected_cohort=USERS, mu=1.0, seed=1)
    inner = kind(kind.Config(), facts)
    made = RowCapped(kind(kind.Config(), facts), RowCapConfig(cap=CAP))
    capped = 0
    for number in range(inner.rounds):
        for one, other in zip(inner.queries(number), made.queries(number), strict=True):
            assert replace(other, row_cap=None) == one
            capped += other.row_cap is not None
    assert capped


def test_a_batch_that_is_cut_again_has_the_integers_of_one_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = PublicFacts(planted_catalogue(), users=USERS, expected_cohort=USERS, seed=1)
    algo = RowCapped(ALS(parse(ALSConfig, {"dim": 4, "rounds": 1}, "test"), facts), RowCapConfig(cap=CAP))
    kept = SumsContract.integers(algo, algo.initial(), batch_of(edge_rows()), 0)
    monkeypatch.setattr("fedrec.privacy.row_cap._KEPT", 0)
    again = SumsContract.integers(algo, algo.initial(), batch_of(edge_rows()), 0)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_server_node_and_device_read_the_cap_and_older_texts_lack_it() -> None:
    capped, plain = spec(row_cap=CAP), spec()
    assert "row_cap" not in json.loads(plain.text())
    assert plain.fingerprint != capped.fingerprint
    made = parse_spec(capped.text()).build(CATALOGUE)
    assert [query.row_cap for query in made.queries(0)] == [CAP]
    assert device_spec.parse(capped.text()).capped
    assert not device_spec.parse(plain.text()).capped


def test_the_server_refuses_a_row_beyond_the_nodes_caps() -> None:
    """A node with code of its own, with a message within the clip and all of it in one row."""
    query = SumQuery("q", (5, 2), 1.0, 1.0, row_cap=CAP)
    asked = Expected("mark", 0, (query,), 3, True, 100)
    for length, fits in ((3 * CAP * 0.999, True), (3 * CAP * 1.001, False), (2.9, False)):
        value = torch.zeros(5, 2)
        value[3, 1] = length
        packet = Packet(exchange.SUMS, "mark", 0, tensors={"q": query.encode(value, query.lattice(100))})
        if fits:
            assert checked_sums(packet, asked)
            continue
        with pytest.raises(WireError) as caught:
            checked_sums(packet, asked)
        assert caught.value.code == "row"
        assert checked_sums(packet, replace(asked, queries=(replace(query, row_cap=None),)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (("privacy.row_cap=0",), "row_cap"),
        (("privacy.row_cap=1.5",), "row_cap"),
        (("privacy.row_cap=.2", "privacy.epsilon=none"), "part of the clip"),
        (("privacy.row_cap=.2", "privacy.clipping.adaptive=true"), "clips that stay"),
    ],
)
def test_caps_that_cannot_be_are_refused(changes: tuple[str, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_scenario("quickstart", changes)
    assert "row_cap" not in PrivacyConfig().resolved()


def test_an_algorithm_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="has a row for each item"):
        spec("content", row_cap=CAP).build(CATALOGUE)
