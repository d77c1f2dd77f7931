"""Progress from Python: lines in a notebook replace each other, and are escaped; a script stays silent."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

import fedrec
from fedrec.api.progress import progress_of


def test_a_notebook_shows_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    cell = SimpleNamespace(update=lambda html: shown.append(f"update {html}"))

    def display(html: str, display_id: bool) -> Any:
        assert display_id
        shown.append(html)
        return cell

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    progress = progress_of(True, None)
    progress.console.is_jupyter = True
    with progress.stage("Reading <img src=x>"):
        pass
    progress.say("round 1/2")
    assert shown == ["<pre>Reading &lt;img src=x&gt; ...</pre>", "update <pre>round 1/2</pre>"]


def test_a_script_prints_nothing(data: fedrec.Data, capfd: pytest.CaptureFixture[str]) -> None:
    reports: list[Any] = []
    settings = {"evaluation.baselines": False}
    fedrec.simulate("popularity", data, delta=1e-3, seed=1, on_round=reports.append, settings=settings)
    assert capfd.readouterr() == ("", "")
    assert [report.round for report in reports] == [0]


def test_a_verdict_is_readable(run: fedrec.Run) -> None:
    said = str(fedrec.verify(run, trust_run_key=True))
    assert said.startswith("verified: everything that was checked holds; epsilon ")
    assert "note: the key was in the run's folder" in said
