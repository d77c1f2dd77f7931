"""Attacks through the real system: their success without and with privacy, and their reports."""

import html
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fedrec_sim.attacks import attribute, canary_attack, membership, reconstruction
from fedrec_sim.attacks.canaries import Canaries, Directions, WithCanaries
from fedrec_sim.attacks.crowd import identities, with_empty_users, with_unusual_users
from fedrec_sim.attacks.record import Bound, Result, rounded_down
from fedrec_sim.attacks.recorder import Observation
from fedrec_sim.attacks.self_test import SMALL, self_test, small_target
from fedrec_sim.attacks.success import area
from fedrec_sim.attacks.target import load_target, watch

from fedrec.audit.evidence.attack_results import opened
from fedrec.audit.log.ledger import read_ledger
from fedrec.cli import run
from fedrec.errors import InputError
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import DenseContribution, SumQuery

FCF = ("data.users=120", "data.items=80", "data.interactions_per_user=8", "algorithm.name=fcf", "algorithm.dim=3")


def sets(changes):
    return [part for change in changes for part in ("--set", change)]


def test_directions_are_orthonormal_and_fast_both_ways():
    directions = Directions(7, 30, 1)
    matrix = np.stack([directions.combined(np.array([c]), np.ones(1)) for c in range(7)])
    assert np.allclose(matrix @ matrix.T, np.eye(7))
    vector = np.random.default_rng(0).standard_normal(30)
    assert np.allclose(directions.along(vector), matrix @ vector)
    amounts = np.arange(3.0)
    assert np.allclose(directions.combined(np.array([1, 4, 6]), amounts), amounts @ matrix[[1, 4, 6]])
    assert np.abs(matrix).max() < 0.6, "dense, not one coordinate each"


@pytest.mark.parametrize("loudness", [0.5, 16.0, 1000.0])
def test_a_canary_is_a_contribution_like_any_other(loudness):
    query = SumQuery("sum", (6, 5), 2.0, 1.0)
    inner = DenseContribution(torch.randn(8, 6, 5, generator=torch.Generator().manual_seed(0)))
    inner.values[3] = float("nan")  # what a canary would have added is replaced, whatever it was
    canaries = Canaries(np.arange(10, 14), np.array([True, False, True, True]), 0, loudness)
    made = canaries.plant(query, inner, torch.tensor([3, 5, 7]), np.array([0, 1, 3]))
    assert isinstance(made, WithCanaries)
    assert made.norms()[[3, 5, 7]].tolist() == [2 * loudness, 0, 2 * loudness]
    assert torch.equal(made.norms()[[0, 1, 2]], inner.norms()[[0, 1, 2]])
    weights = clip_weights(made, query.clip_norm)
    expected = sum(weights[u].float() * made.dense(u) for u in range(8) if weights[u])
    assert torch.allclose(made.weighted_sum(weights), expected, atol=1e-4)
    assert float(made.dense(3).norm() * weights[3]) <= 2.0
    assert float(made.dense(3).norm() * weights[3]) == pytest.approx(min(2 * loudness, 2.0), rel=1e-5)
    crowded = Canaries(np.arange(31), np.ones(31, dtype=bool), 0)
    assert not crowded.has_room(query)
    assert crowded.plant(query, inner, torch.tensor([3]), np.array([0])).norms()[3] == 0


def test_the_recorder_changes_nothing_and_leaves_nothing_but_noise():
    target = load_target("quickstart", [*FCF, "algorithm.rounds=2"], None, 1)
    plain = target.setup().counterfactual()
    rounds: list[Observation] = []
    watched = watch(target.setup(), target.users, rounds.append)
    model = watched.setup.algorithm.release(watched.outcome.shared)
    assert all(torch.equal(tensor, plain.tensors()[name]) for name, tensor in model.tensors().items())
    everybody = target.users.batch(np.arange(len(target.users)), 1)
    for seen in rounds:
        contributions = watched.setup.algorithm.contribute(seen.before, everybody, seen.round)
        for name, release in seen.releases.items():
            weights = clip_weights(contributions[name], release.query.clip_norm)
            oracle = sum(weights[u].float() * contributions[name].dense(u) for u in range(len(everybody)))
            assert np.allclose(release.others, oracle.flatten().numpy(), atol=1e-3)
        assert len(seen.cohort) == len(target.users)
    assert len(rounds) == watched.setup.algorithm.rounds
    assert watched.ledger.charge(1).round == 1


def test_empty_users_are_nobody_else():
    users = small_target(1).users
    more = with_empty_users(users, 50)
    assert len(more) == len(users) + 50
    assert len(np.unique(identities(more))) == len(more)
    assert np.all(more.lengths[-50:] == 0)
    assert np.array_equal(identities(more)[: len(users)], identities(users))


def test_unusual_users_are_like_nobody():
    users = small_target(1).users
    more = with_unusual_users(users, 40, 1)
    assert len(more) == len(users) + 40
    added = [more.row(user) for user in range(len(users), len(more))]
    assert {len(row) for row in added} == {int(np.median(users.lengths))}
    assert all(len(np.unique(row)) == len(row) for row in added)
    popularity = np.bincount(users.items, minlength=users.n_items)
    assert popularity[np.concatenate(added)].mean() < popularity[users.items].mean() / 1.5
    assert np.array_equal(more.select(np.arange(len(users))).items, users.items)


def test_membership_is_plain_without_privacy_and_bounded_with_it():
    target = load_target("quickstart", [*SMALL, "algorithm.dim=16", "algorithm.rounds=3"], None, 1)
    sums, model = membership.attack(target, targets=200)
    for group in ("own_users", "unusual_users"):
        assert float(sums.figures["without_privacy"][group]["auc"]) > 0.99
        assert float(sums.figures["with_privacy"][group]["auc"]) < 0.9
    off, on = (float(model.figures[key]["unusual_users"]["auc"]) for key in ("without_privacy", "with_privacy"))
    assert off > 0.8
    assert on < 0.65
    for result in (sums, model):
        assert not result.accused
        assert result.lower < result.proven
        assert "without privacy" in result.says
    open_run = membership.attack(target.with_privacy(epsilon="none"), targets=50)
    assert all(result.bounds == () and result.figures["with_privacy"] is None for result in open_run)


def test_the_suspects_who_are_out_add_nothing():
    target = load_target("quickstart", [*FCF, "algorithm.rounds=1"], None, 1).with_privacy(epsilon="none")
    positions = np.arange(0, 120, 2)
    seen: list[Observation] = []
    suspects = membership.Suspects(positions, np.zeros(60, dtype=bool), 1.0, private=False)
    watch(target.setup(), target.users, seen.append, suspects)
    assert all(np.abs(release.rest).max() < 1e-4 for one in seen for release in one.releases.values())


def test_reconstruction_says_what_the_server_sees():
    server, recipient = reconstruction.attack(small_target(1), targets=40)
    assert float(server.figures["with_privacy"]["history_found"]) == 1
    assert float(server.figures["without_privacy"]["whole_history_found"]) == 1
    assert "no epsilon is claimed" in server.says
    assert server.proven is None
    assert not server.accused
    found = float(recipient.figures["with_privacy"]["history_found"])
    assert found < float(recipient.figures["guess_by_popularity"]["history_found"])
    clear = reconstruction.attack(small_target(1).with_privacy(epsilon="none"), targets=20)[1]
    assert float(clear.figures["with_privacy"]["history_found"]) == 1
    assert "no noise" in clear.says


@pytest.mark.parametrize(("trust", "adversary"), [("local", "server"), ("distributed", "secure_aggregation_fails")])
def test_a_message_with_its_own_noise_is_what_is_read_where_users_add_it(trust, adversary):
    target = small_target(1).with_privacy(trust=trust)
    server, recipient = reconstruction.attack(target, targets=40)
    assert server.adversary == adversary
    assert float(server.figures["without_privacy"]["whole_history_found"]) == 1
    guess = float(server.figures["guess_by_popularity"]["history_found"])
    if trust == "local":
        assert float(server.figures["with_privacy"]["history_found"]) < guess
    assert float(recipient.figures["with_privacy"]["history_found"]) < guess


@pytest.mark.parametrize("trust", ["local", "distributed"])
def test_membership_is_bounded_where_users_add_the_noise(trust):
    target = load_target("quickstart", [*SMALL, "algorithm.dim=4", "algorithm.rounds=2"], None, 1)
    sums, _ = membership.attack(target.with_privacy(trust=trust), targets=100)
    assert float(sums.figures["with_privacy"]["own_users"]["auc"]) < 0.9
    assert not sums.accused


def test_equal_scores_count_against_the_attack():
    mine = np.array([True, False, True, False])
    assert reconstruction._success(np.zeros(4), mine) == (0.5, 0.0)
    assert reconstruction._success(mine * 1.0, mine) == (1.0, 1.0)


def test_an_algorithm_without_item_rows_is_not_called_safe():
    target = load_target("quickstart", [*FCF[:3], "algorithm.name=content"], None, 1)
    (result,) = reconstruction.attack(target)
    assert "no evidence of safety" in result.says
    assert attribute.attack(target) == []


def test_an_attribute_is_read_from_a_message_and_not_behind_the_noise():
    server, recipient = attribute.attack(small_target(1), targets=300)
    assert float(server.figures["accuracy"]["low"]) > float(server.figures["more_frequent_class"]["share"]) + 0.1
    low, high = (float(recipient.figures["accuracy"][key]) for key in ("low", "high"))
    assert low < 0.5 < high
    assert abs(float(recipient.figures["auc"]) - 0.5) < 4 * float(recipient.figures["standard_error"])


def test_gender_comes_from_the_public_file(data_dir: Path):
    target = load_target("ml-100k-dp", [], data_dir, 0)
    name, labels = attribute.attribute(target)
    assert name.startswith("gender")
    assert len(labels) == len(target.users)
    assert 0.2 < (labels[labels >= 0] == 1).mean() < 0.4  # 273 of 943
    assert (labels >= 0).all()


def test_area():
    scores, inside = np.array([3.0, 1, 2, 1]), np.array([True, False, True, True])
    assert area(scores, inside)[0] == pytest.approx(2.5 / 3)
    assert area(np.zeros(4), inside)[0] == 0.5
    assert area(scores, np.zeros(4, dtype=bool)) == (0.5, 0.5)


def test_a_record_rounds_against_itself():
    assert rounded_down(1.99999) == "1.9999"
    result = Result("k", "a", "t", "o", {}, 1, False, "s", proven=1.00001, bounds=(Bound("m", 0.99999, "x"),))
    payload = result.payload()
    assert (payload["epsilon_lower"], payload["epsilon_proven"]) == ("0.9999", "1.0001")
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload


@pytest.mark.parametrize(
    ("changes", "canaries", "message"),
    [(["privacy.epsilon=none"], 100, "claims no epsilon"), ([], 5, "fewer than 10"), ([], 10_000, "room for as many")],
)
def test_canaries_that_cannot_be(changes, canaries, message):
    target = load_target("quickstart", [*FCF, "algorithm.rounds=1", *changes], None, 1)
    with pytest.raises(InputError, match=message):
        canary_attack.attack(target, canaries)


def test_as_many_canaries_as_most_of_the_budget_has_room_for():
    assert canary_attack.fitting(small_target(1).setup().plan) == 1000
    kernel = load_target("quickstart", [], None, 1).setup().plan
    assert canary_attack.fitting(kernel) == 600  # the items of the popularity query


def test_a_self_test_needs_noise():
    with pytest.raises(InputError, match="states no noise"):
        self_test(small_target(1).with_privacy(epsilon="none"))


def test_results_go_into_the_ledger_of_a_run(tmp_path, capsys):
    folder = tmp_path / "run"
    settings = sets([*FCF, "algorithm.rounds=2", "evaluation.baselines=false"])
    assert run(["simulate", *settings, "--seed", "1", "--out", str(folder), "--quiet"]) == 0
    before = len(read_ledger(folder / "release" / "privacy" / "ledger.jsonl")[0])
    capsys.readouterr()
    asked = ["audit", "attack", str(folder), "--kind", "canary", "--kind", "reconstruction", "--canaries", "200"]
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told[0]["name"] == "canary"
    entries = read_ledger(folder / "release" / "privacy" / "ledger.jsonl")[0]
    attacks = [entry.payload for entry in entries[before:] if entry.payload["type"] == "attack"]
    assert [each["name"] for each in attacks] == [each["name"] for each in told]
    assert all(set(each) == {"type", "version", "name", "adversary", "result"} for each in attacks)
    assert all(each["type"] == "attack" for each in told)
    assert json.loads((folder / "private" / "attacks.json").read_text()) == told
    assert [opened(each, folder / "private") for each in attacks] == told
    assert [opened(each, None) for each in attacks] == attacks
    assert run(["audit", "verify", str(folder), "--trust-run-key"]) == 0
    for page in (tmp_path / "page.html", folder / "release" / "privacy" / "report.html"):
        assert run(["audit", "report", str(folder), "--output", str(tmp_path / "page.html")]) == 0
        text = html.unescape(page.read_text())
        assert "its owner keeps the result" in text
        assert told[0]["about"] not in text
    capsys.readouterr()
    assert run(["audit", "show", str(folder)]) == 0
    assert told[0]["epsilon_lower"] in capsys.readouterr().out, "their owner can read them"
    lower, proven = float(told[0]["epsilon_lower"]), float(told[0]["epsilon_proven"])
    assert 0 <= lower <= proven
    assert run([*asked[:5], "--canaries", "100", "--quiet"]) == 0
    assert len(json.loads((folder / "private" / "attacks.json").read_text())) == len(told) + 1
    assert "docs/attacks.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "canarie"], "Did you mean 'canary'"),
        (["--confidence", "1"], "0.95 is usual"),
        (["nowhere"], "unknown scenario"),
        (["{folder}"], "holds no run"),
        (["{folder}", "--out", "x"], "its own folder"),
        (["--set", "privacy.epsilon=none", "--kind", "canary"], "claims no epsilon"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    arguments = [argument.replace("{folder}", str(tmp_path)) for argument in arguments]
    assert run(["audit", "attack", *arguments, "--quiet"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_an_accusation_is_told_and_leaves_with_4(monkeypatch, capsys):
    from tests.simulation.attacks.planted_bugs import half_the_noise

    half_the_noise(monkeypatch)
    assert run(["audit", "attack", "--kind", "self-test", "--seed", "3", "--quiet"]) == 4
    captured = capsys.readouterr()
    assert "ACCUSED" in captured.out
    assert "noise scale" in " ".join(captured.out.split())
    assert captured.err.startswith("error: the system is accused by: self-test")
