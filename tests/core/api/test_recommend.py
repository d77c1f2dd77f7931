"""Lists for one person: what is on them, why, and what the command says where it cannot make one."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

import fedrec
from fedrec.cli import run as command
from fedrec.recommend import ranking, reasons


@pytest.fixture(scope="module")
def als(data: fedrec.Data) -> fedrec.Model:
    settings = {"evaluation.baselines": False, "algorithm.dim": 4}
    return fedrec.simulate("als", data, epsilon="none", seed=1, settings=settings, progress=False).model


@pytest.fixture(scope="module")
def saved(log: pl.DataFrame, catalogue: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    log.write_csv(folder / "log.csv")
    catalogue.with_columns(pl.col("genres").list.join("|")).write_csv(folder / "items.csv")
    data = fedrec.read_log(folder / "log.csv", catalogue=folder / "items.csv")
    settings = {"algorithm.rounds": 1, "evaluation.baselines": False}
    made = fedrec.simulate("kernel-rank", data, epsilon=8, delta=1e-3, seed=1, settings=settings, progress=False)
    return made.save(folder / "run")


@pytest.mark.parametrize("kind", ["run", "als"])
def test_a_list_is_the_model_s_order_in_ids_and_titles(kind: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(kind)
    model = found.model if isinstance(found, fedrec.Run) else found
    assert model.data is not None
    user, known = "person-zqxjkv01", set(model.data.history("person-zqxjkv01")["item"])
    whole = model.recommend(user=user, k=24)
    assert whole.columns == ["item", "title", "score"]
    assert set(whole["item"]) == set(model.items) - known
    assert whole["score"].is_sorted(descending=True)
    assert whole["title"][0] == f"The <b>{whole['item'][0].removeprefix('item-')}</b>th"
    by_history = model.recommend(history=model.data.history(user)["item"].to_list(), k=24)
    assert by_history["item"].to_list() == whole["item"].to_list()
    less = model.recommend(user=user, k=24, exclude=[whole["item"][0], whole["item"][2]])
    assert less["item"].to_list() == [item for n, item in enumerate(whole["item"]) if n not in (0, 2)]
    assert model.recommend(user=user, k=24, seen=True).height == 24
    assert model.recommend(history=[], k=3).height == 3


def test_reasons_are_what_happens_without_an_item(als: fedrec.Model) -> None:
    """Against the slow way: fit the history again without each item, one at a time."""
    history = ["item-0", "item-3", "item-7", "item-3"]
    batch = als._person(None, history)
    items = torch.tensor([10, 15])
    found = reasons.past(als.released, batch, items, most=3)
    for place, item in enumerate(items.tolist()):
        whole = float(als.released.score(als.released.fit(batch))[0, item])
        falls = {}
        for gone in set(history):
            rest = als._person(None, [each for each in history if each != gone])
            falls[als.items.index(gone)] = whole - float(als.released.score(als.released.fit(rest))[0, item])
        expected = sorted((pair for pair in falls.items() if pair[1] > 1e-6), key=lambda pair: -pair[1])
        assert [name for name, fall in found[place] if fall > 1e-6] == [name for name, _ in expected]
        assert [fall for _, fall in found[place] if fall > 1e-6] == pytest.approx(
            [fall for _, fall in expected], abs=1e-5
        )


def test_feature_groups_are_what_happens_with_average_features(run: fedrec.Run) -> None:
    """For a head without hidden units the groups sum to the score minus that of the average item."""
    model = run.model.released
    batch = run.model._person("person-zqxjkv01", None)
    state, items = model.fit(batch), torch.arange(24)[None]
    groups = model.explain(state, items)
    assert {"popularity", "genres"} <= set(groups)
    assert all(part.shape == (1, 24) for part in groups.values())
    if not model.network:  # type: ignore[attr-defined]
        scores = model.score(state)
        total = torch.stack(list(groups.values())).sum(0)
        torch.testing.assert_close(total, scores - scores.mean(), rtol=1e-3, atol=1e-4)
    why = run.model.recommend(user="person-zqxjkv01", k=3, why=True)
    assert why.columns[-2:] == ["carried_by", "because_of"]
    assert all(len(cell) <= 2 for cell in why["carried_by"])
    past = set(run.data.history("person-zqxjkv01")["title"])
    assert {title for cell in why["because_of"] for title in cell} <= past


def test_a_diverse_list_repeats_itself_less(als: fedrec.Model) -> None:
    def likeness(items: list[str]) -> float:
        rows = als.released.item_rows(torch.tensor([als.items.index(item) for item in items]))
        assert rows is not None
        unit = torch.nn.functional.normalize(rows, dim=1)
        return float((unit @ unit.T).triu(1).sum())

    plain, diverse = (als.recommend(history=["item-1", "item-2"], k=6, diversity=d) for d in (0.0, 0.9))
    assert plain["item"][0] == diverse["item"][0]
    assert likeness(diverse["item"].to_list()) < likeness(plain["item"].to_list())


def test_diversity_is_greedy_relevance_less_likeness() -> None:
    """Two equal items: the second comes last, whatever its score."""
    scores = torch.tensor([1.0, 0.9, 0.5, 0.0])
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert ranking._diverse(scores, rows, 4, 0.6).tolist() == [0, 2, 1, 3]
    assert ranking._diverse(scores, rows, 2, 0.01).tolist() == [0, 1]


def test_similar_items_are_near_by_the_model_s_rows(als: fedrec.Model) -> None:
    found = als.similar("item-4", k=23)
    assert found.height == 23
    assert "item-4" not in found["item"]
    assert found["likeness"].is_sorted(descending=True)
    assert found["likeness"].abs().max() <= 1 + 1e-6  # type: ignore[operator]


def test_a_model_without_rows_goes_by_the_catalogue(data: fedrec.Data, log: pl.DataFrame) -> None:
    made = fedrec.simulate("popularity", data, delta=1e-3, seed=1, progress=False)
    assert made.model.similar("item-4", k=3)["likeness"].to_list() == pytest.approx([1, 1, 1])
    bare = fedrec.simulate("popularity", fedrec.read_log(log), delta=1e-3, seed=1, progress=False)
    with pytest.raises(fedrec.InputError, match="use a model that learns"):
        bare.model.similar("item-4")
    with pytest.raises(fedrec.InputError, match="neither the model nor the catalogue"):
        bare.model.recommend(history=["item-4"], diversity=0.5)


def test_mistakes_are_one_line(als: fedrec.Model) -> None:
    for wrong, said in (
        ({"history": ["item-99"]}, "no item 'item-99'"),
        ({"history": ["item-1"], "exclude": ["itme-1"]}, "Did you mean 'item-1'"),
        ({"history": "item-1"}, "a list of ids"),
        ({"user": "person-zqxjkv99"}, "no such user"),
        ({}, "one of user and history"),
        ({"history": [], "k": 0}, "at least 1"),
        ({"history": [], "diversity": 1}, "below 1"),
    ):
        with pytest.raises(fedrec.InputError, match=said) as error:
            als.recommend(**wrong)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)


def test_the_command_shows_the_list_of_python(saved: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    expected = fedrec.load_run(saved).model.recommend(user="person-zqxjkv01", k=4, why=True)
    capsys.readouterr()
    assert command(["recommend", str(saved), "--user", "person-zqxjkv01", "-k", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "kernel-rank", "items": expected.to_dicts()}
    assert command(["recommend", str(saved), "--user", "person-zqxjkv01", "-k", "4"]) == 0
    shown = capsys.readouterr().out
    assert "PRIVATE to this person" in shown
    assert "carried by" in shown
    assert "<b>" in shown
    history = tmp_path / "seen.csv"
    history.write_text("item_id\nitem-1\nitem-3\n")
    for name, text in (
        ("seen.txt", "item-1\nitem-3\n"),
        ("seen.jsonl", '{"item_id": "item-1"}\n{"item_id": "item-3"}\n'),
    ):
        (tmp_path / name).write_text(text)
    lists = []
    for name in ("seen.csv", "seen.txt", "seen.jsonl"):
        assert command(["recommend", str(saved), "--history", str(tmp_path / name), "--json"]) == 0
        lists.append(capsys.readouterr().out)
    assert lists[0] == lists[1] == lists[2]
    first = json.loads(lists[0])["items"][0]["item"]
    arguments = [
        "recommend",
        str(saved),
        "--history",
        str(history),
        "--exclude",
        first,
        "--exclude",
        str(history),
        "--json",
    ]
    assert command(arguments) == 0
    assert first not in {row["item"] for row in json.loads(capsys.readouterr().out)["items"]}


def test_the_command_needs_the_run_s_own_data(
    saved: Path, log: pl.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, kept = saved.parent / "log.csv", (saved.parent / "log.csv").read_bytes()
    try:
        file.unlink()
        assert command(["recommend", str(saved), "--user", "person-zqxjkv01"]) == 2
        said = capsys.readouterr().err
        assert "cannot be read again" in said
        assert "--log" in said
        (tmp_path / "moved.csv").write_bytes(kept)
        assert (
            command(["recommend", str(saved), "--user", "person-zqxjkv01", "--log", str(tmp_path / "moved.csv")]) == 0
        )
        log.filter(pl.col("user_id") != "person-zqxjkv03").write_csv(file)
        capsys.readouterr()
        assert command(["recommend", str(saved), "--user", "person-zqxjkv01"]) == 2
        assert "not those of the run" in capsys.readouterr().err
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Give --user ID or --history FILE"),
        (["--user", "1", "--history", "x"], "Give --user ID or --history FILE"),
        (["--history", "nowhere.txt"], "no such file"),
        (["--user", "person-zqxjkv01", "--diversity", "2"], "below 1"),
        (["--user", "person-zqxjkv01", "--exclude", "itme-1"], "Did you mean 'item-1'"),
        (["--user", "person-zqxjkv99"], "no such user"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(
    saved: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["recommend", str(saved), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_released_folder_alone_serves_a_history(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(saved / "release", tmp_path / "release")
    (tmp_path / "seen.txt").write_text("item-1\n")
    assert command(["recommend", str(tmp_path / "release"), "--history", str(tmp_path / "seen.txt"), "-k", "2"]) == 0
    assert "item-" in capsys.readouterr().out
    assert command(["recommend", str(tmp_path / "release"), "--user", "person-zqxjkv01"]) == 2
    assert "needs the whole run" in capsys.readouterr().err
