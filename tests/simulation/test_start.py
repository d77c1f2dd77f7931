"""Starts at another run's release: whose privacy it is, what ledger and statement say, and what is refused."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

import fedrec
from fedrec.api.data import Data
from fedrec.api.run import Run
from fedrec.audit.entries.records import BeginRecord
from fedrec.audit.statement.received import receive
from fedrec.cli import app
from fedrec.data.catalogue import Catalogue, Numbers, Texts
from fedrec.data.matching import positions
from fedrec.errors import FedrecError, InputError, VerificationError
from fedrec.privacy.config import PrivacyConfig
from fedrec.run.start import begun
from fedrec.run.start_config import StartConfig

FAST = {"evaluation.baselines": False, "evaluation.order_free": False, "evaluation.every": 0}
TOWER = FAST | {"algorithm.rounds": 2, "algorithm.tower.dim": 8}


def a_log(folder: Path, name: str, seed: int, users: int = 60) -> Path:
    draw = random.Random(seed)
    rows = [(user, item) for user in range(users) for item in draw.sample(range(user % 2, 30, 2), 6)]
    file = folder / f"{name}.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").write_csv(file)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A public run, a private one, and a private one on the same people."""
    folder = tmp_path_factory.mktemp("start")
    own, other = (fedrec.read_log(a_log(folder, name, seed)) for name, seed in (("own", 1), ("other", 2)))
    run: Callable[..., Run] = fedrec.simulate
    common = {"progress": False, "settings": TOWER}
    return {
        "folder": folder,
        "own": own,
        "public": run("tower-sgd", other, epsilon="none", seed=1, out=folder / "public", **common),
        "private": run("tower-sgd", other, epsilon=2, seed=2, out=folder / "private", **common),
        "same": (same := run("tower-sgd", own, epsilon=2, seed=3, out=folder / "same", **common)),
        "on same": run("tower-sgd", own, epsilon=3, seed=9, init=same, out=folder / "on same", **common),
    }


def begin(made: dict[str, Any], run: str, tmp_path: Path, epsilon: Any = 3, **settings: Any) -> Run:
    own: Data = made["own"]
    changes = TOWER | {name.replace("__", "."): value for name, value in settings.items()}
    return fedrec.simulate(
        "tower-sgd",
        own,
        epsilon=epsilon,
        seed=9,
        init=made[run],
        settings=changes,
        out=tmp_path / "run",
        progress=False,
    )


def test_a_public_start_is_declared_and_named_by_scenario_ledger_and_statement(
    made: dict[str, Any], tmp_path: Path
) -> None:
    run = begin(made, "public", tmp_path, start__public=True)
    model = json.loads((made["public"].folder / "release/model/manifest.json").read_text())["sha256"]
    found = receive(run.folder)
    assert found.known.begin.start is not None
    assert (found.known.begin.start.model, found.known.begin.start.people) == (model, "public")
    assert f'sha256 = "{model}"' in (run.folder / "release/scenario.toml").read_text()
    assert any(model in line and "promises its people nothing" in line for line in found.statement.not_protected)
    assert run.summary["start"]["items"] == 30
    assert found.faults == ()


def test_the_budgets_of_two_runs_on_the_same_people_are_stated_as_their_sum(
    made: dict[str, Any], tmp_path: Path
) -> None:
    run = made["on same"]
    start = receive(run.folder).known.begin.start
    assert start is not None
    assert (start.people, start.epsilon, start.both_epsilon, start.both_delta) == ("same", "2.0", "5.0000", "2e-05")
    assert "up to epsilon 5.0000 at delta 2e-05" in (run.folder / "release/privacy/statement.md").read_text()
    again = fedrec.simulate(
        "tower-sgd", made["own"], epsilon=1, seed=10, init=run, settings=TOWER, progress=False, out=tmp_path / "again"
    )
    third = receive(again.folder).known.begin.start
    assert third is not None
    assert third.both_epsilon == "6.0000"  # of all three


def test_an_interrupted_run_continues_to_the_same_bits(made: dict[str, Any], tmp_path: Path) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    where: dict[str, Any] = {"init": made["same"], "settings": TOWER, "out": tmp_path / "run", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        fedrec.simulate("tower-sgd", made["own"], epsilon=3, seed=9, on_round=stop, **where)
    run = fedrec.resume(tmp_path / "run", made["own"], progress=False)
    model = "release/model/model.safetensors"
    assert (run.folder / model).read_bytes() == (made["on same"].folder / model).read_bytes()


def test_a_ledger_with_less_than_the_sum_is_refused(made: dict[str, Any]) -> None:
    begun = receive(made["on same"].folder).known.begin.payload()
    forged = begun | {"start": begun["start"] | {"both_epsilon": "3.0"}}
    with pytest.raises(ValueError, match="not the sum"):
        BeginRecord.model_validate(forged)
    hidden = begun | {"start": begun["start"] | {"both_epsilon": None, "both_delta": None}}
    with pytest.raises(ValueError, match="not the sum"):
        BeginRecord.model_validate(hidden)


@pytest.mark.parametrize(
    ("run", "settings", "message"),
    [
        ("public", {}, "--init-public"),
        ("public", {"start__public": True, "start__people": "same"}, "promises them nothing"),
        ("private", {}, "start.people=other, or same"),
        ("private", {"start__public": True, "start__people": "other"}, "leave it out"),
        ("same", {"seed": 3}, "same seed 3"),
        ("same", {"start__sha256": "0" * 64}, "start.sha256 asks"),
        ("private", {"start__people": "other", "start__match": "title"}, "without titles"),
        ("private", {"start__people": "other", "algorithm__tower__dim": 9}, "set the same dim"),
    ],
)
def test_what_nothing_can_be_promised_of_is_refused_in_one_line(
    made: dict[str, Any], tmp_path: Path, run: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(FedrecError, match=message) as caught:
        begin(made, run, tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_start_may_have_learned_from_items_that_a_split_takes_for_new(made: dict[str, Any]) -> None:
    config = StartConfig(run=made["same"].folder)
    with pytest.raises(InputError, match="takes for new"):
        begun(config, Catalogue(("0", "1")), "own", "cold-items", PrivacyConfig(), 9, None)


def test_a_chain_of_starts_does_not_hide_that_it_saw_the_same_people(made: dict[str, Any], tmp_path: Path) -> None:
    begin(made, "public", tmp_path, start__public=True)
    saw = fedrec.read_log(a_log(made["folder"], "other", 2))
    chained = {"init": tmp_path / "run", "settings": TOWER | {"start.people": "same"}, "progress": False}
    with pytest.raises(FedrecError, match="itself started from a run on 'other'"):
        fedrec.simulate("tower-sgd", saw, epsilon=3, seed=11, **chained)


def test_an_algorithm_without_item_vectors_is_refused_and_the_others_are_named(
    made: dict[str, Any], tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        app, ["simulate", "quickstart", "--init", str(made["public"].folder), "--out", str(tmp_path / "run")]
    )
    assert done.exit_code != 0
    assert "als, tower-sgd" in str(done.exception)
    with pytest.raises(InputError, match="give run"):
        fedrec.load_scenario("quickstart", {"start.public": True})


def test_a_model_that_the_ledger_does_not_fix_is_refused(made: dict[str, Any], tmp_path: Path) -> None:
    copy = made["private"].save(tmp_path / "copy")
    model = copy / "release/model"
    other = made["public"].folder / "release/model"
    for name in ("model.safetensors", "manifest.json"):
        (model / name).write_bytes((other / name).read_bytes())
    with pytest.raises(VerificationError, match="not the one that its ledger fixes"):
        begin(made | {"copy": copy}, "copy", tmp_path, start__people="other")


def test_equal_ids_of_other_items_are_refused_and_titles_match_them() -> None:
    def catalogue(ids: tuple[str, ...], titles: tuple[str, ...], years: tuple[float, ...]) -> Catalogue:
        import numpy as np

        return Catalogue(ids, titles, (Texts("title", titles), Numbers("year", np.array(years))))

    ours = catalogue(("1", "2", "3", "4"), ("Heat", "Matrix, The", "Heat", "Alien"), (1995, 1999, 1986, 1979))
    theirs = catalogue(("1", "2", "3"), ("The Matrix", "Heat (Director's Cut)", "Alien"), (1999, 1995, 1992))
    with pytest.raises(InputError, match="number their items differently"):
        positions(ours, theirs, "id")
    assert positions(ours, theirs, "title").tolist() == [1, 0, -1, -1]
