"""The page of secure aggregation names tests that exist, and the numbers that the code gives."""

import re

import pytest

from fedrec.secagg import Assumption, parameters
from tests.docs.fences import ROOT

PAGE = (ROOT / "docs" / "secagg.md").read_text(encoding="utf-8")
FOLDERS = [ROOT / "tests/core/secagg", ROOT / "tests/server", ROOT / "tests/server/helper"]
TESTS = "\n".join(file.read_text(encoding="utf-8") for each in FOLDERS for file in each.glob("test_*.py"))
ROW = re.compile(r"^\| ([\d,]+) \| (\d+) % \| (\d+) % \| (\d+), (\d+) \| (?:(\d+), (\d+))? ?\|$", re.MULTILINE)


def test_every_named_test_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in TESTS} == set()


@pytest.mark.parametrize("row", ROW.findall(PAGE), ids=lambda row: row[0])
def test_the_table_of_neighbours_is_what_the_code_chooses(row: tuple[str, ...]) -> None:
    members, corrupt, dropout = int(row[0].replace(",", "")), int(row[1]) / 100, int(row[2]) / 100
    for split_view, k, t in ((False, *row[3:5]), (True, *row[5:7])):
        if k:
            found = parameters(members, Assumption(corrupt, dropout, split_view))
            assert (found.neighbours, found.threshold) == (int(k), int(t))


def test_the_table_of_neighbours_was_found() -> None:
    assert len(ROW.findall(PAGE)) == 5
