"""Public triples as columns: expected labels and paths, TransE on held-out facts, hostile tables, no events read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedrec import cli
from fedrec.data import entities
from fedrec.data.datasets import DataConfig, load
from fedrec.data.encoded import encoders_of
from fedrec.errors import InputError
from fedrec.knowledge import walks
from fedrec.knowledge.columns import Sizes, add_columns
from fedrec.knowledge.transe import train
from fedrec.knowledge.triples import Triples, read_triples, typed_triples

ITEMS = pl.Series("item", ["a", "b", "c", "d"])
FACTS = [
    *[("a", "by", "x"), ("b", "by", "x"), ("c", "by", "y"), ("d", "by", "z")],
    *[("y", "of", "s"), ("z", "of", "s"), ("x", "of", "t"), ("t", "likes", "c"), ("t", "likes", "d")],
]


def facts(rows: list[tuple[str, str, str]] = FACTS) -> Triples:
    table = pl.DataFrame(rows, schema=["head", "relation", "tail"], orient="row")
    return typed_triples(table, Path("facts"), ITEMS)


def test_labels_are_neighbours_of_several_items_in_both_directions() -> None:
    found = {name: column.to_list() for name, column in walks.labels(facts()).items()}
    assert found == {"graph_by": [["x"], ["x"], [], []], "graph_likes_of": [[], [], ["t"], ["t"]]}


def test_paths_join_items_that_share_an_entity_two_steps_away_and_no_others() -> None:
    table = walks.reach(facts(FACTS[:7])).toarray()
    alike = table @ table.T
    assert alike[0, 1] > 0  # the same maker
    assert alike[2, 3] > 0  # makers of the same school
    assert np.allclose(alike[:2, 2:], 0)
    assert alike[0, 1] > alike[2, 3]
    vectors = walks.spectral(facts(), 2)
    assert vectors.shape == (4, 2)
    assert np.array_equal(vectors, walks.spectral(facts(FACTS[::-1]), 2))  # whatever the order of lines
    with pytest.raises(InputError, match="smaller --width"):
        walks.spectral(facts(), 50)


def test_transe_puts_held_out_facts_above_replaced_ones() -> None:
    whole = typed_triples(entities.triples(200), Path("facts"), pl.Series("item", [str(i) for i in range(200)]))
    school = np.array([int(name.split("/")[1]) if "school/" in name else -1 for name in whole.entities])
    of_maker = {int(h): int(t) for h, r, t in whole.facts if whole.relations[r] == "member_of"}
    by = whole.relations.index("made_by")
    # "taught_by": item -> its school, a fact that two others imply; a fifth of them is held out
    shortcut = np.array([[h, len(whole.relations), of_maker[int(t)]] for h, r, t in whole.facts if r == by])
    out, kept = shortcut[::5], np.delete(shortcut, np.s_[::5], 0)
    known = replace(
        whole, relations=(*whole.relations, "taught_by"), facts=np.concatenate([whole.facts, kept, kept[:, [0, 1, 2]]])
    )
    found = train(known, width=16, epochs=60, seed=0)
    schools = np.flatnonzero(school >= 0)
    ranks = []
    for fact in out:
        every = np.stack([np.full(len(schools), fact[0]), np.full(len(schools), fact[1]), schools], 1)
        distance = found.distance(every)
        ranks.append(int((distance < distance[schools == fact[2]]).sum()))
    assert np.mean(ranks) < 0.5 * (len(schools) - 1) / 2  # random ranks have a mean of 9.5
    assert np.allclose(np.linalg.norm(found.entities, axis=1), 1, atol=1e-5)


def test_transe_is_the_same_for_the_same_seed_alone() -> None:
    one, two, other = (train(facts(), width=4, epochs=3, seed=seed).entities for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,by,x\nb,by,x\na,by,x\n", "line 4: this triple occurs before"),
        ("a,by,x\n,by,x\n", "line 3: 'head' is empty"),
        ("a,by,x\nb,  ,x\n", "line 3: 'relation' is empty"),
        ("a,by,x\nb,by,x\x1b[31m\n", "line 3: 'tail' holds a control character"),
        ("a,by,x\nb,by,\u202ex\n", "line 3: 'tail' holds a control character"),
        (f"a,by,{'x' * 600}\n", "line 2: 'tail' is longer"),
        ("q,by,x\n", "no head or tail is an item"),
        ("a,by,x,more\n", "not a table"),
    ],
)
def test_a_hostile_or_broken_line_is_one_line_of_error(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "facts.csv"
    file.write_text("head,relation,tail\n" + text)
    with pytest.raises(InputError, match=fault) as caught:
        read_triples(file, ITEMS)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_unknown_columns_and_relations_are_named(tmp_path: Path) -> None:
    file = tmp_path / "facts.tsv"
    file.write_text("head\trelation\ttail\na\tby\tx\n")
    assert read_triples(file, ITEMS, ["by"]).known.tolist() == [True, False, False, False]
    with pytest.raises(InputError, match="--relation bye: no triple"):
        read_triples(file, ITEMS, ["bye"])
    file.write_text("subject\trelation\ttail\na\tby\tx\n")
    with pytest.raises(InputError, match="needs a column 'head'"):
        read_triples(file, ITEMS)


def test_digest_is_of_the_facts_and_a_column_of_the_catalogue_is_not_overwritten() -> None:
    assert facts().digest == facts(FACTS[::-1]).digest != facts(FACTS[1:]).digest
    table = pl.DataFrame({"item": ITEMS, "graph_by": [1, 2, 3, 4]})
    with pytest.raises(InputError, match="column 'graph_by' already"):
        add_columns(table, facts(), ["labels"], Sizes())


def test_command_writes_vectors_that_a_run_reads_and_never_looks_at_events(tmp_path: Path, capsys) -> None:
    out, again = tmp_path / "graph.parquet", tmp_path / "again.parquet"
    command = ["data", "graph", "knowledge", "--only-vectors", "--width", "8", "--epochs", "2", "--out"]
    assert cli.run([*command, str(out)]) == 0
    assert encoders_of(out)["graph_transe"].startswith("transe (rule 1; 32 numbers, 2 epochs, seed 0), sha256 ")
    data = load(DataConfig(name="knowledge", users=30, vectors=out), None, seed=3)
    assert set(data.catalogue.encoders) == {"graph_paths", "graph_transe"}
    plain = load(DataConfig(name="knowledge", users=30), None, seed=3)
    assert data.catalogue.digest != plain.catalogue.digest
    items = tmp_path / "items.csv"
    items.write_text("item_id\n" + "".join(f"{item}\n" for item in range(600)))  # a catalogue without any log
    table = tmp_path / "facts.parquet"
    entities.triples().write_parquet(table)
    assert cli.run([*command[:2], str(items), "--triples", str(table), *command[3:], str(again)]) == 0
    first, second = (pl.read_parquet(file) for file in (out, again))
    assert first.select("graph_paths", "graph_transe").equals(second.select("graph_paths", "graph_transe"))
    assert encoders_of(out) == encoders_of(again)
    assert cli.run(["data", "graph", str(items), "--out", str(out)]) == 2
    assert "--triples: name the file" in capsys.readouterr().err
