from pathlib import Path

import pytest
from fedrec_sim.benchmarks import leak

from fedrec.cli import run
from fedrec.run.scenario import checked

ROWS = [row for rows in leak.SECTIONS.values() for row in rows]


def summary(hr: float) -> dict:
    metrics = {"rule": "leave-one-out", "sampled-99": {"hr@10": hr, "ndcg@10": hr / 2}}
    return {"metrics": metrics, "baselines": {"popularity": metrics | {"sampled-99": {"hr@10": 0.4, "ndcg@10": 0.2}}}}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.folder(0, True))
def test_both_runs_of_a_row_differ_in_the_leak_alone(row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(leak, "child_scenario", lambda scenario, out, data: seen.append((scenario, out)) or {})
    for leaky in (True, False):
        row.run(3, leaky, tmp_path, None)
    (first, one), (second, two) = seen
    assert one != two
    assert (first.evaluation.leaky_negatives, second.evaluation.leaky_negatives) == (True, False)
    assert first.seed == second.seed == 3
    assert first.evaluation.on == "test"
    same = {"name": first.name, "evaluation": first.evaluation}
    assert second.model_copy(update=same) == first
    assert not first.privacy.private


def test_folders_are_told_apart() -> None:
    folders = [row.folder(seed, leaky) for row in ROWS for seed in (0, 1) for leaky in (True, False)]
    assert len(set(folders)) == len(folders)


def test_a_table_shows_published_leaky_and_clean_side_by_side() -> None:
    text = leak.section("ml-1m", [0, 1], lambda row, seed, leaky: summary(0.7 + 0.02 * seed if leaky else 0.5), print)
    row = next(line for line in text.splitlines() if "pfedrec" in line)
    assert row == (
        "| PFedRec (`pfedrec`) | 0.7326 / 0.4436 | 0.7100 ± 0.0141 / 0.3550 ± 0.0071 "
        "| 0.5000 ± 0.0000 / 0.2500 ± 0.0000 | 2 |"
    )
    assert "| 0.6772 / 0.4090 | draws no negatives | 0.5000" in text
    assert "| popularity | | | 0.4000 ± 0.0000 / 0.2000 ± 0.0000 | 2 |" in text
    assert "Rule: leave-one-out" in text


def test_what_stands_around_the_table_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "leak.md"
    leak.write(page, ["### one"])
    page.write_text("# Leak\n\n" + page.read_text() + "\nEnd.\n")
    leak.write(page, ["### two", "### three"])
    text = page.read_text()
    assert text.startswith("# Leak\n")
    assert text.endswith("\nEnd.\n")
    assert "### one" not in text
    assert text.index("### two") < text.index("### three")
    leak.write(page, ["### two", "### three"])
    assert page.read_text() == text


def test_the_checked_scenario_knows_every_setting() -> None:
    """`AS_PUBLISHED` with a setting that no algorithm has would be refused."""
    with pytest.raises(Exception, match="unknown key"):
        checked({"data": {"name": "ml-100k"}, "algorithm": {"name": "pfedrec", "own_item": True}}, "x")


@pytest.mark.parametrize(
    ("arguments", "says"), [(["--dataset", "ml-100"], "ml-100k"), (["--seeds", "one"], "whole numbers")]
)
def test_what_is_wrong_with_the_command_is_said(arguments, says, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "leak", *arguments]) == 2
    assert says in capsys.readouterr().err
