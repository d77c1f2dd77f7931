"""The page of results: what is finished is kept, what changed is run again, what failed stops nothing."""

import json
from pathlib import Path

import pytest
from fedrec_sim.benchmarks import results
from fedrec_sim.benchmarks.grid import FULL, SAMPLED, SECTIONS, Row, Section

from fedrec.errors import InputError

DATA = {"name": "quickstart", "users": 150, "items": 300, "interactions_per_user": 6}
POPULARITY = {"name": "popularity"}


def section(*rows: Row) -> Section:
    published = (("published: somebody", (0.5, None, None, None, None)),)
    return Section("toy", "Toy data", DATA, rows, SAMPLED + FULL, seeds=2, published=published)


def test_runs_are_kept_and_run_again_only_when_their_settings_change(tmp_path: Path) -> None:
    file, said = tmp_path / "results.json", []
    rows = Row("popularity", POPULARITY, "none"), Row("popularity", POPULARITY, 2.0, delta=1e-4)
    assert results.fill(results.Results(file), [section(*rows)], None, None, said.append) == []
    assert [line.split(", ")[1:] for line in said] == [
        ["epsilon none", "seed 0"],
        ["epsilon 2.0", "seed 0"],
        ["epsilon none", "seed 1"],
        ["epsilon 2.0", "seed 1"],
    ]
    said.clear()
    other = Row("popularity", POPULARITY | {"counts": True}, 2.0, delta=1e-4)
    store = results.Results(file)
    results.fill(store, [section(rows[0], other)], None, None, said.append)
    assert [line.split(", ")[1] for line in said] == ["epsilon 2.0", "epsilon 2.0"]
    assert len(json.loads(file.read_text())) == 4
    old = section(*rows)
    assert "| `popularity` | 2.0" not in results.table(old, store), "a run of other settings is no figure of today's"
    assert "| `popularity`, older settings | 2.0" in results.table(old, store)
    assert [epsilon for epsilon, _, _ in results.series(old, store)["popularity"]] == [None]
    page = results.document([results.table(section(rows[0], other), store)], store)
    line = next(line for line in page.splitlines() if line.startswith("| `popularity` | 2.0"))
    assert line.count("±") == 6  # five columns and the order-free one
    assert line.endswith("| 2 |")
    assert "| published: somebody |  | 0.5000 |" in page
    points = results.series(section(rows[0], other), store)["popularity"]
    assert [epsilon for epsilon, _, _ in points] == [None, 2.0]


def test_a_run_by_another_rule_than_the_peers_is_run_again(tmp_path: Path) -> None:
    """Its settings are today's; its test items are those of an older split."""
    toy, store = section(Row("popularity", POPULARITY, "none")), results.Results(tmp_path / "results.json")
    run = {"settings": results.settings_hash(toy, toy.rows[0], 0), "rule": "newest event; ties drawn", "metrics": {}}
    store.add("toy | popularity, epsilon none | 0", run)
    assert store.holds(toy, toy.rows[0], 0)
    store.add("toy | central EASE | 0", run)
    assert store.holds(toy, toy.rows[0], 0)
    forgetful = run | {"rule": f"newest event; {results.ORDER_IGNORED}ties drawn"}
    store.add("toy | popularity, epsilon none | 0", forgetful)
    assert store.holds(toy, toy.rows[0], 0), "an ablation ignores the order of the same split"
    store.add("toy | central EASE | 0", run | {"rule": "newest event; ties by item; ties drawn"})
    assert not store.holds(toy, toy.rows[0], 0)
    assert store.of_row(toy, toy.rows[0]) == ([forgetful], True)


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    too_much = Row("popularity", POPULARITY, 1.0, delta=0.5)  # delta above 1 / users
    toy = section(too_much, Row("popularity", POPULARITY, "none"))
    store = results.Results(tmp_path / "results.json")
    failures = results.fill(store, [toy], 1, None, lambda line: None)
    assert len(failures) == 1
    assert "delta" in failures[0]
    assert list(store.runs) == ["toy | popularity, epsilon none | 0"]


def test_a_broken_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match="not a store of results"):
        results.Results(tmp_path / "results.json")


def test_every_row_of_the_page_is_a_run_that_can_be(tmp_path: Path) -> None:
    names = {section.name for section in SECTIONS}
    assert len(names) == len(SECTIONS)
    for one in SECTIONS:
        assert len({row.name for row in one.rows}) == len(one.rows)
        for row in one.rows:
            assert results.scenario(one, row, 0).algorithm_config is not None
        assert all(len(figures) == len(one.columns) for _, figures in one.published)
