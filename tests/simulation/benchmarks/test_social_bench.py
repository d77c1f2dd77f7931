"""`fedrec bench social`: one table and one file; what is alone and without noise does not depend on epsilon."""

import json
from pathlib import Path

import pytest
from fedrec_sim.benchmarks.social_command import CIRCLES

from fedrec.cli import run


def test_a_row_a_circle_and_epsilon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "social"
    assert run(["bench", "social", "--users", "44", "--seeds", "3,4", "--epsilon", "0.01,100", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads((out / "social.json").read_text())
    assert len(document["results"]) == document["planned"] == len(CIRCLES) * 2 * 2
    assert sum(line.lstrip().startswith(("1 group ", "2 groups ")) for line in lines) == len(CIRCLES) * 2
    for each in document["results"]:
        same = {key: each[key] for key in ("liked", "known", "theirs", "seed", "alone", "clear")}
        assert sum(same.items() <= other.items() for other in document["results"]) == 2
    assert run(["bench", "social", "--out", str(out)]) == 2, "another benchmark is never overwritten"


@pytest.mark.parametrize("epsilon", ["one", "0", "-1", "inf", "nan", ""])
def test_a_wrong_epsilon_is_one_line(epsilon: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "social", "--epsilon", epsilon]) == 2
    assert "--epsilon" in capsys.readouterr().err
