"""A hostile server asks a node: neither the number of users nor a refusal shows what anybody did."""

from pathlib import Path

import numpy as np
import pytest
from fedrec_client.commands import _hosted_users
from fedrec_client.consent.policy import LARGEST_CLIP, DataPolicy
from fedrec_client.node import UserNode
from fedrec_client.node_config import VIRTUAL, ConfigError
from fedrec_client.sources import finder

from fedrec import wire
from fedrec.algorithms.discover import algorithm
from fedrec.data.balance import BalanceConfig
from fedrec.data.datasets import DataConfig
from fedrec.data.holdouts import HoldOutConfig
from fedrec.data.local_rules import CleaningConfig, LocalRules
from fedrec.data.public import PUBLIC
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.federation.data_request import DataRequest, parse_data
from fedrec.federation.spec import RunSpec
from fedrec.transport.environment import safe_environment

ITEMS = 12
CATALOGUE = "item_id,title\n" + "".join(f"{item},film {item}\n" for item in range(ITEMS))
HISTORIES = {
    "rated everything low": [(1, item, 1, 10 + item) for item in range(5)],
    "rated everything high": [(1, item, 5, 10 + item) for item in range(5)],
    "one event": [(1, 3, 4, 99)],
    "many, later": [(1, item, 1 + item % 5, 10**9 + item) for item in range(ITEMS)],
}
"""One person's events as (user, item, rating, time): the attacker wants to know which of these it is."""

QUESTIONS = [
    *({"min_rating": rating} for rating in (None, 0.5, 2, 3, 4, 5, 100, -1)),
    *({"k_core": core} for core in (2, 3, 6, 100)),
    *({"split": split} for split in ("leave-two-out", "ncf", "given", "given-all", "user-holdout", "ratio", "k-fold")),
    *({"split": "temporal", "hold_out": HoldOutConfig(cut=cut)} for cut in ("1970-01-02", "2040-01-01", "1901-01-01")),
    {"split": "leave-two-out", "min_rating": 5},
    {"split": "user-holdout", "hold_out": HoldOutConfig(share=0.4)},
    {"ordered": False},
    {"mask_dropped": True, "min_rating": 5},
    {"balance": BalanceConfig(most_events=1)},
    {"cleaning": CleaningConfig(burst=1, burst_seconds=1e9, scale=(6, 7))},
]


def log(folder: Path, events: list[tuple[int, int, int, int]], name: str = "events.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{user},{item},{rating},{time}\n" for user, item, rating, time in events)
    (folder / name).write_text(f"user_id,item_id,rating,timestamp\n{rows}")
    (folder / "catalogue.csv").write_text(CATALOGUE)
    return folder


def own(folder: Path, events: list[tuple[int, int, int, int]], **config: object) -> UserNode:
    return UserNode(finder({"data": str(log(folder, events)), **config}))


def hello(node: UserNode, name: str = "nodes", **settings: object) -> dict[str, object]:
    request = DataRequest(data=DataConfig(name=name, **settings), seed=1)
    return dict(node.answer(exchange.ask_hello(request)).facts)


def asked(
    name: str, settings: dict, data: DataConfig, digest: str, cohort: list[int], hosted: int, **more: object
) -> wire.Packet:
    kind = algorithm(name)
    told = {
        "algorithm": name,
        "settings": kind.Config(**settings).model_dump(mode="json"),
        "data": DataRequest(data=data, seed=1).text(),
        "catalogue": digest,
        "users": 1000,
        "expected_cohort": 10.0,
        "mu": 1.0,
        "seed": 1,
    }
    spec = RunSpec(**told | more)
    return exchange.ask_sum(spec.text(), spec.fingerprint, 0, {}, {}, np.array(cohort, dtype=np.int64), hosted)


@pytest.mark.parametrize("settings", QUESTIONS, ids=repr)
def test_no_question_about_own_data_shows_which_history_it_is(settings: dict, tmp_path: Path) -> None:
    answers = [hello(own(tmp_path / str(n), events), **settings) for n, events in enumerate(HISTORIES.values())]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["users"] == 1


def test_a_node_cleans_as_a_simulation_does_and_reads_no_file_that_a_run_names(tmp_path: Path) -> None:
    events = [
        (user, item, 1 + (user * item) % 6, 10 * item ** (1 + item // 6)) for user in range(4) for item in range(ITEMS)
    ]
    find = finder({"data": str(log(tmp_path, events))})
    for settings in ({"burst": 2, "burst_seconds": 20}, {"scale": (1, 5), "normalise": "centre", "augment": "crop"}):
        config = CleaningConfig(**settings)
        plain, cleaned = (
            find(DataRequest(data=DataConfig(name="nodes", cleaning=table), seed=1).text()).source
            for table in (None, config)
        )
        alike = LocalRules(config)(plain, 1)
        assert len(alike.items) < len(plain.items)
        assert np.array_equal(cleaned.items, alike.items)
        assert np.array_equal(cleaned.ratings, alike.ratings)
    (tmp_path / "means.csv").write_text("item_id,rating\n0,5\n")
    means = CleaningConfig(impute="item-means", item_means=tmp_path / "means.csv")
    with pytest.raises(ConfigError, match="files only that its own configuration names"):
        find(DataRequest(data=DataConfig(name="nodes", cleaning=means), seed=1).text())


def test_a_user_without_events_left_takes_part_with_nothing(tmp_path: Path) -> None:
    events = [(user, item, 1 if user == 2 else 5, item) for user in range(4) for item in range(3)]
    node = own(tmp_path, events, users=6)
    told = hello(node, min_rating=5)
    assert told["users"] == 6
    sums = []
    for position in range(6):
        data = DataConfig(name="nodes", min_rating=5)
        answer = node.answer(asked("popularity", {}, data, told["catalogue"], [position], 6))
        sums.append(float(answer.tensors["popularity"].abs().sum()))
    assert sums[2] == sums[4] == sums[5] == 0
    assert min(sums[:2] + sums[3:4]) > 0


def test_the_number_of_users_is_the_declared_one_whoever_left(tmp_path: Path) -> None:
    events = [(user, item, 5, item) for user in range(4) for item in range(3)]
    assert hello(own(tmp_path / "a", events, users=9)) == hello(own(tmp_path / "b", events[:-3], users=9))
    assert hello(own(tmp_path / "c", events, users=3)) == {"code": "data"}
    for wrong in (0, -1, "4", 1.5, True):
        with pytest.raises(ConfigError, match="whole number"):
            own(tmp_path / "d", events, users=wrong)


def test_a_folder_that_the_server_names_is_not_served(tmp_path: Path) -> None:
    """The fault: `--shard` served the server's "our-patients" out of the node's folder of datasets, unclipped."""
    place = tmp_path / "our-patients"
    place.mkdir()
    (place / "our-patients.inter").write_text("user_id:token\titem_id:token\n" + "".join(f"1\t{i}\n" for i in range(9)))
    shard = {"partition-id": 0, "num-partitions": 1, "data-dir": str(tmp_path)}
    for served in ({}, {"datasets": "ml-1m,quickstart"}):
        node = UserNode(finder(shard | served))
        assert hello(node, "our-patients") == hello(node, "not-there") == {"code": "dataset"}
        assert hello(node, "quickstart")["users"] > 1
    assert hello(UserNode(finder(shard | {"datasets": "ml-1m"})), "quickstart") == {"code": "dataset"}
    with pytest.raises(ConfigError, match="built-in, public dataset"):
        finder(shard | {"datasets": "our-patients"})
    assert {"quickstart", "ml-1m", "amazon-2023-books"} <= PUBLIC


def test_only_a_simulation_s_own_nodes_serve_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "mine.inter").write_text(
        "user_id:token\titem_id:token\n" + "".join(f"{u}\t{i}\n" for u in range(3) for i in range(5))
    )
    monkeypatch.setenv(VIRTUAL, "1")
    node = UserNode(finder({"partition-id": 0, "num-partitions": 1, "data-dir": str(tmp_path)}))
    assert hello(node, "mine")["users"] == 3
    assert VIRTUAL not in safe_environment(tmp_path)


def test_data_of_its_own_never_answer_a_run_without_privacy(tmp_path: Path) -> None:
    events = [(user, item, 5, item) for user in range(4) for item in range(3)]
    node, data = own(tmp_path, events, **{"without-privacy": True}), DataConfig(name="nodes")
    digest = hello(node)["catalogue"]
    assert node.answer(asked("popularity", {}, data, digest, [1], 4)).kind == exchange.SUMS
    assert node.answer(asked("popularity", {}, data, digest, [1], 4, mu=None)).facts == {"code": "privacy"}


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"counts": True, "clip_norm": 1e30}, {}),
        ({"counts": True, "clip_norm": 2 * LARGEST_CLIP}, {}),
        ({}, {"mu": 1e-9}),
        ({}, {"mu": -1.0}),
        ({}, {"mu": 1e9}),
        ({}, {"users": 3, "expected_cohort": 1.0}),
        ({}, {"expected_cohort": 1e7}),
    ],
)
def test_terms_that_no_honest_run_has_are_refused(settings: dict, more: dict, tmp_path: Path) -> None:
    events = [(user, item, 5, item) for user in range(4) for item in range(3)]
    node = own(tmp_path, events)
    digest, data = hello(node)["catalogue"], DataConfig(name="nodes")
    assert node.answer(asked("popularity", settings, data, digest, [1], 4, **more)).facts == {"code": "terms"}


def test_a_description_with_numbers_that_are_none_is_refused(tmp_path: Path) -> None:
    node = own(tmp_path, HISTORIES["one event"])
    packet = asked("popularity", {}, DataConfig(name="nodes"), hello(node)["catalogue"], [0], 1)
    for value in ("NaN", "Infinity", "-Infinity", "1e400"):
        text = packet.facts["spec"].replace('"mu": 1.0', f'"mu": {value}')
        assert text != packet.facts["spec"]
        changed = wire.Packet(
            packet.kind, wire.fingerprint(text), 0, dict(packet.facts) | {"spec": text}, packet.tensors
        )
        assert node.answer(changed).facts == {"code": "request"}


def test_options_of_the_command_go_together() -> None:
    with pytest.raises(InputError, match="--dataset goes with --shard"):
        _hosted_users(None, ["ml-1m"], None, Path("/tmp"), None, None)
    with pytest.raises(InputError, match="--users go with --data"):
        _hosted_users("0/2", [], None, None, None, 5)
    with pytest.raises(InputError, match="host other data with"):
        _hosted_users("0/2", ["our-patients"], None, None, None, None)
    assert _hosted_users("0/2", ["ml-1m"], None, None, None, None)["datasets"] == "ml-1m"


DAY = 86400


def test_only_events_of_an_allowed_age_are_used_and_nobody_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose events are all too old, or too young, is there as a user without events: no answer shows it."""
    now = 1000 * DAY + 5000
    monkeypatch.setattr("fedrec_client.sources.time.time", lambda: now)
    ages = {0: 1, 1: 15, 2: 15, 3: 400}
    events = [(user, item, 5, now - days * DAY - item) for user, days in ages.items() for item in range(3)]
    config = {"data": str(log(tmp_path, events))}
    for policy, used in (
        (DataPolicy(), [3, 3, 3, 3]),
        (DataPolicy(oldest_days=30), [3, 3, 3, 0]),
        (DataPolicy(newest_days=10), [0, 3, 3, 3]),
        (DataPolicy(oldest_days=30, newest_days=10), [0, 3, 3, 0]),
    ):
        request = DataRequest(data=DataConfig(name="nodes"), seed=1).text()
        assert list(finder(config, policy)(request).source.lengths) == used
        told = dict(UserNode(finder(config, policy)).answer(exchange.ask_hello(parse_data(request))).facts)
        assert told["users"] == 4


def test_events_without_a_time_have_no_age_that_is_allowed(tmp_path: Path) -> None:
    file = log(tmp_path, []) / "events.csv"
    file.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user in range(4) for item in range(3)))
    request = DataRequest(data=DataConfig(name="nodes", ordered=False), seed=1).text()
    assert list(finder({"data": str(tmp_path)})(request).source.lengths) == [3] * 4
    assert list(finder({"data": str(tmp_path)}, DataPolicy(oldest_days=30))(request).source.lengths) == [0] * 4
