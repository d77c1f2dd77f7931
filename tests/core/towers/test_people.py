"""The tower for people: coding and gradients against slow oracles, the device's form, and a planted value's traces."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fedrec
from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.tower_sgd import TowerSGD, TowerSGDConfig
from fedrec.compress.distil import distilled
from fedrec.compress.settings import Steps
from fedrec.data.people import People
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.ondevice.attributes import AttributeNetwork
from fedrec.privacy.clipping import clip_weights
from fedrec.settings import parse
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.toy_users import GROUPS, USERS, batch_of, planted_catalogue, planted_rows
from fedrec.towers.local import LocalContribution
from fedrec.towers.losses import user_losses
from fedrec.towers.people import PeopleConfig, PeopleNetwork, TowerWithPeople, columns
from tests.core.towers.test_towers import DIM, RATE, SCALE, a_tower, an_objective
from tests.core.towers.test_towers import USERS as FEW

CONFIG = PeopleConfig.model_validate(
    {
        "attributes": {"lang": ["fi", "sv", "7"], "age": {"limits": [18, 35.5]}, "height": {"low": 100, "high": 200}},
        "layers": [4],
    }
)
CPU = torch.device("cpu")
values = st.sampled_from(["fi", "sv", "7", "de", "17", "18", "35.5", "36", "90", "150", "1e3", "x", "nan", "inf", ""])
person = st.fixed_dictionaries({}, optional={"lang": values, "age": values, "height": values, "other": values})


def coded_slowly(who: dict[str, str]) -> list[float]:
    """One user, one attribute after another, from the definitions."""

    def number(text: str) -> float | None:
        return float(text) if text[:1].isdigit() else None

    age, height = number(who.get("age", "")), number(who.get("height", ""))
    found = [0.0] * 3 if age is None else [float(age < 18), float(18 <= age < 35.5), float(age >= 35.5)]
    found += [0.0, 0.0] if height is None else [1.0, (min(max(height, 100.0), 200.0) - 150) / 50]
    return found + [1.0 if who.get("lang") == label else 0.0 for label in ("fi", "sv", "7")]


def network(seed: int = 1) -> PeopleNetwork:
    made = PeopleNetwork.start(CONFIG, DIM, seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


@settings(max_examples=25)
@given(st.lists(person, min_size=1, max_size=5))
def test_attributes_are_coded_as_one_at_a_time_and_as_on_a_device(people: list[dict[str, str]]) -> None:
    table = columns(People.of(people), CONFIG, len(people), CPU)
    assert table.tolist() == [coded_slowly(who) for who in people]
    made = network()
    *hidden, last = (layer for layer in made.layers if isinstance(layer, torch.nn.Linear))
    pairs = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in hidden]
    device = AttributeNetwork(json.loads(CONFIG.model_dump_json()), pairs, last.weight.detach().numpy())
    shifts = made(table).detach().numpy() * (CONFIG.events / (CONFIG.events + 2.5))
    assert np.allclose([device.shift(who, 2.5) for who in people], shifts, rtol=1e-12, atol=1e-14)


def test_numbers_of_a_table_are_coded_as_their_text() -> None:
    numbers = People(("lang", "age"), ((), ()), torch.tensor([[7.0, 18.0], [np.nan, 35.5]], dtype=torch.float64))
    expected = [coded_slowly({"lang": "7", "age": "18"}), coded_slowly({"age": "35.5"})]
    assert columns(numbers, CONFIG, 2, CPU).tolist() == expected
    assert not columns(None, CONFIG, 2, CPU).any()


def test_server_nodes_and_devices_have_the_columns_in_one_order() -> None:
    """Messages and manifests sort names: columns in the order of the settings would be others on a node."""
    given = CONFIG.model_dump(mode="json")
    turned = given | {"attributes": dict(reversed(given["attributes"].items()))}
    one = People.of([{"lang": "sv", "age": "20", "height": "180"}])
    assert torch.equal(columns(one, PeopleConfig.model_validate(turned), 1, CPU), columns(one, CONFIG, 1, CPU))
    weight = np.arange(CONFIG.width, dtype=np.float32)[None]
    shifts = [AttributeNetwork(each, [], weight).shift(one.person(0), 0.0) for each in (given, turned)]
    assert shifts[0] == shifts[1] == columns(one, CONFIG, 1, CPU)[0].numpy() @ weight[0]


def test_somebody_unknown_has_no_shift() -> None:
    assert not network()(torch.zeros(CONFIG.width, dtype=torch.float64)).any()
    assert network()(torch.ones(CONFIG.width, dtype=torch.float64)).any()
    started = PeopleNetwork.start(CONFIG, DIM, 3)
    assert not started(torch.ones(CONFIG.width)).any(), "at the start attributes change nothing"


# ---- contributions


def towers_and_objective(loss: str) -> tuple[TowerWithPeople, Any]:
    who = [{"lang": "fi"}, {"age": "20"}, {}, {"lang": "sv", "height": "120"}, {"lang": "fi"}, {"age": "70"}, {}]
    objective = replace(
        an_objective(loss),
        people=columns(People.of(who), CONFIG, FEW, CPU),
        shrink=torch.linspace(0.1, 1.0, FEW),
    )
    return TowerWithPeople(a_tower("hybrid"), network()), objective


def slow_contribution(tower: TowerWithPeople, objective: Any, user: int, steps: int) -> torch.Tensor:
    """One user's steps on a copy, by plain autograd."""
    start = [parameter.detach().clone() for parameter in tower.parameters()]
    for _ in range(steps):
        items = objective.targets.items[user]
        shift = tower.people(objective.people[user])
        vector = objective.vectors[user].double() + objective.shrink[user].double() * shift
        scores = SCALE * (tower.item_tower(items) @ vector) + objective.bias.double()[items]
        loss = user_losses(objective.loss, scores[None], None, objective.targets.valid[user][None]).sum()
        slopes = torch.autograd.grad(loss, list(tower.parameters()), allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(tower.parameters(), slopes, strict=True):
                parameter -= 0 if slope is None else RATE * slope
    moved = torch.cat([(old - new).flatten() for old, new in zip(start, tower.parameters(), strict=True)]) / RATE
    with torch.no_grad():
        for parameter, old in zip(tower.parameters(), start, strict=True):
            parameter.copy_(old)
    return moved.detach()


@pytest.mark.parametrize(("loss", "steps"), [("softmax", 1), ("bpr", 3)])
def test_contributions_equal_those_of_one_user_at_a_time_and_are_clipped_whole(loss: str, steps: int) -> None:
    tower, objective = towers_and_objective(loss)
    part = LocalContribution(tower, objective, steps, RATE)
    expected = torch.stack([slow_contribution(tower, objective, user, steps) for user in range(FEW)])
    norms = expected.norm(dim=1)
    assert torch.allclose(part.norms(), norms, rtol=1e-6, atol=1e-9)
    people = sum(parameter.numel() for parameter in tower.people.parameters())
    assert expected[:, -people:].abs().sum(1).gt(0).tolist() == [True, False, False, True, True, True, False]
    for row in range(FEW):
        assert torch.allclose(part.dense(row).double(), expected[row], rtol=1e-6, atol=1e-7)
    clip = float(norms.median())
    clipped = (expected * (clip / norms.clamp(min=1e-30)).clamp(max=1.0)[:, None]).sum(0)
    total = part.weighted_sum(clip_weights(part, clip)).double()
    assert (total - clipped).norm() <= 2e-6 * clipped.norm()


def test_no_attribute_moves_a_sum_by_more_than_the_clip_nor_any_other_user() -> None:
    tower, objective = towers_and_objective("softmax")
    objective = replace(objective, vectors=objective.vectors * 50)
    one, odd = 0.01, objective.people.clone()
    odd[4] = 1.0
    before, after = (LocalContribution(tower, replace(objective, people=some)) for some in (objective.people, odd))
    moved = (
        after.weighted_sum(clip_weights(after, one)).double() - before.weighted_sum(clip_weights(before, one)).double()
    )
    assert 0 < float(moved.norm()) <= 2 * one + 1e-7
    others = torch.arange(FEW) != 4
    assert torch.equal(before.weighted_sum(others.double()), after.weighted_sum(others.double()))


# ---- what it learns


def test_people_without_any_event_get_lists_by_their_attributes() -> None:
    settings_ = {"rounds": 15, "targets": 2, "negatives": 6, "learning_rate": 0.15}
    tower = {"name": "content", "dim": 6, "features": 8}
    people = {"attributes": {"sign": [f"s{group}" for group in range(GROUPS)]}}
    rows, _ = planted_rows()

    def with_signs(users: UserBatch) -> UserBatch:
        return replace(users, people=People.of([{"sign": f"s{user % GROUPS}"} for user in range(len(users))]))

    def own_taste(more: dict[str, Any]) -> float:
        algo = TowerSGD(
            parse(TowerSGDConfig, settings_ | {"tower": tower} | more, "here"),
            PublicFacts(planted_catalogue(), USERS, float(USERS), seed=11),
        )
        model = algo.release(AlgorithmContract().train(algo, with_signs(batch_of(rows))))
        listed, _ = model.recommend(with_signs(batch_of([[]] * 8)), 5)
        return float((listed % GROUPS == torch.arange(8)[:, None] % GROUPS).double().mean())

    assert own_taste({}) < 0.5
    assert own_taste({"people": people}) > 0.9


@pytest.mark.parametrize(
    ("people", "said"),
    [
        ({}, "'people.attributes' is missing|attributes"),
        ({"attributes": {}}, "attributes"),
        ({"attributes": {"age": {"limits": [3, 2]}}}, "limits must ascend"),
        ({"attributes": {"age": {"low": 3}}}, "give low and high, the lower one first"),
        ({"attributes": {"age": {"low": 3, "high": 4, "limits": [3]}}}, "give one of values, limits, or low and high"),
        ({"attributes": {"age": ["a", "a"]}}, "different values"),
        ({"attributes": {"age": ["a"]}, "layers": [0]}, "layers are numbers of units"),
        ({"attributes": {"age": ["a"]}, "cold": 1.0}, "cold"),
    ],
)
def test_bad_settings_are_one_line(people: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        parse(TowerSGDConfig, {"people": people}, "[algorithm]")
    assert "\n" not in str(error.value)


def test_ratings_have_no_people() -> None:
    own = {"people": {"attributes": {"age": ["a"]}}, "ratings": True, "loss": "squared"}
    with pytest.raises(InputError, match="people is for events"):
        parse(TowerSGDConfig, own, "[algorithm]")
    adapted = {"people": own["people"], "tower": {"name": "content", "adapter": "lora"}}
    with pytest.raises(InputError, match="people is not for a tower with an adapter"):
        parse(TowerSGDConfig, adapted, "[algorithm]")


def test_a_model_with_people_is_not_distilled() -> None:
    own = {"tower": {"name": "content", "dim": 6, "features": 8}, "people": {"attributes": {"age": ["a"]}}}
    algo = TowerSGD(parse(TowerSGDConfig, own, "here"), PublicFacts(planted_catalogue(), USERS, float(USERS)))
    with pytest.raises(InputError, match="not for a model with a network for people"):
        distilled(algo.release(algo.initial()), Steps(distil=2))


# ---- the attacker, who reads all that a run writes


@pytest.mark.slow
def test_no_file_of_a_run_holds_a_time_or_an_attribute(tmp_path: Path) -> None:
    secret, when, age = "zebraquartz", 1234567890.125, 61.8125
    users = [user for user in range(30) for _ in range(5)]
    log = {
        "user_id": users,
        "item_id": [(user * 7 + place * 3) % 20 for place, user in enumerate(users)],
        "timestamp": [when if place == 11 else 1.6e9 + place for place in range(150)],
    }
    people = {"user_id": list(range(30)), "lang": [secret] + ["fi", "sv"] * 14 + ["fi"], "age": [age] + [30.0] * 29}
    films = {"item_id": list(range(20)), "kind": [["odd" if item % 2 else "even"] for item in range(20)]}
    data = fedrec.read_log(log, films, people)
    attributes = {"lang": ["fi", "sv"], "age": {"limits": [40]}}
    run = fedrec.simulate(
        "tower-sgd",
        data,
        epsilon=8,
        out=tmp_path / "run",
        progress=False,
        settings={"algorithm.people": {"attributes": attributes}, "algorithm.tower.name": "content"},
    )
    assert run.model.released.manifest()["people"]["attributes"]["lang"]["values"] == ["fi", "sv"], (
        "the public values alone"
    )
    traces = [secret.encode(), b"1234567890", str(age).encode()]
    traces += [struct.pack(end + kind, number) for number in (when, age) for end in "<>" for kind in "df"]
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        assert not [trace for trace in traces if trace in content], file
