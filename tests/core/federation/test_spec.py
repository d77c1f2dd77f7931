"""The public description of a run: read back the same, built the same on both sides, refused when it does not fit."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fedrec.algorithms.discover import algorithms
from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.errors import InputError
from fedrec.evaluation.private import PrivateEvaluation
from fedrec.federation.spec import RunSpec, parse_spec

BLOCKS = (
    Categories("genres", ("a", "b"), np.eye(30, 2, dtype=bool)),
    Numbers("year", np.where(np.arange(30) % 7, np.arange(30.0), np.nan)),
    Texts("title", tuple(f"film {n}" for n in range(30))),
    Vectors("text", np.ones((30, 3), dtype=np.float32)),
)
CATALOGUE = Catalogue(tuple(map(str, range(30))), blocks=BLOCKS)


def spec(name: str = "popularity", **more) -> RunSpec:
    settings = algorithms()[name].Config().model_dump(mode="json") if name in algorithms() else {}
    values = {"users": 100, "expected_cohort": 50.0, "mu": 1.25, "seed": 3, "catalogue": CATALOGUE.digest}
    return RunSpec(algorithm=name, settings=settings, **(values | more))


@pytest.mark.parametrize("name", sorted(algorithms()))
@pytest.mark.parametrize("mu", [None, 0.7])
def test_both_sides_build_the_same_algorithm(name, mu) -> None:
    one = spec(name, mu=mu)
    other = parse_spec(one.text())
    assert other == one
    assert other.text() == one.text()
    here, there = one.build(CATALOGUE), other.build(replace(CATALOGUE))
    assert here.facts.mu == (math.inf if mu is None else mu)
    assert here.config == there.config
    assert [here.queries(round_index) for round_index in range(here.rounds)] == [
        there.queries(r) for r in range(there.rounds)
    ]
    assert one.private == (mu is not None)


def test_a_private_evaluation_is_part_of_it() -> None:
    assert isinstance(spec(evaluation_share=0.1).build(CATALOGUE), PrivateEvaluation)


@pytest.mark.parametrize("part", range(5))
def test_another_catalogue_is_refused(part) -> None:
    blocks = list(BLOCKS)
    if part < 4:
        blocks[part] = replace(blocks[part], name="other")
    other = replace(CATALOGUE, blocks=tuple(blocks), ids=CATALOGUE.ids if part < 4 else CATALOGUE.ids[::-1])
    with pytest.raises(InputError, match="the catalogue is not that of the run"):
        spec().build(other)


@pytest.mark.parametrize("text", ["", "[]", "{}", "1" * 10, "[" * 100_000, '{"algorithm": "als"}', '{"users": NaN}'])
def test_any_other_text_is_one_line(text) -> None:
    with pytest.raises(InputError) as caught:
        parse_spec(text)
    assert "\n" not in str(caught.value)


def test_an_unknown_algorithm_or_setting_is_one_line() -> None:
    with pytest.raises(InputError, match="unknown algorithm"):
        spec("popularitys").build(CATALOGUE)
    with pytest.raises(InputError, match="unknown key"):
        spec().model_copy(update={"settings": {"count": True}}).build(CATALOGUE)
