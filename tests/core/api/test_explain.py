"""Reasons from Python and on the command line: shares of a score that sum to it, with the titles of the catalogue."""

import json
from pathlib import Path

import pytest

import fedrec
from fedrec.cli import run as command
from fedrec.errors import InputError


@pytest.fixture(scope="module")
def made(data: fedrec.Data) -> fedrec.Run:
    settings = {"evaluation.baselines": False, "algorithm.dim": 4}
    return fedrec.simulate("als", data, epsilon="none", seed=1, settings=settings, progress=False)


def test_the_shares_of_python_sum_to_the_score_of_the_list(made: fedrec.Run) -> None:
    user = "person-zqxjkv01"
    best = made.model.recommend(user=user, k=1)
    why = made.model.explain(best["item"][0], user=user)
    assert why.score == pytest.approx(best["score"][0], rel=1e-6)
    assert why.baseline + sum(part.value for part in why.parts) == pytest.approx(why.score, rel=1e-9)
    past = made.data.history(user)
    assert {share.name for share in why.past} <= set(past["item"]), "an item without a trained row has no share"
    assert len(why.past) > 2
    assert why.title == best["title"][0]
    assert any(f'"{title}"' in why.words for title in past["title"])
    same = made.model.explain(best["item"][0], history=past["item"].to_list())
    assert {part.event for part in same.parts} == {part.event for part in why.parts}
    with pytest.raises(InputError, match="explain"):
        made.model.explain("no such item", user=user)
    with pytest.raises(InputError, match="one of user and history"):
        made.model.explain(best["item"][0])


def test_the_command_says_why_and_draws_it(
    made: fedrec.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file, picture = made.save(tmp_path / "run"), tmp_path / "seen.txt", tmp_path / "why.svg"
    file.write_text("\n".join(made.data.history("person-zqxjkv01")["item"].to_list()[:4]))
    line = ["recommend", str(folder / "release"), "--history", str(file), "-k", "2"]
    assert command([*line, "--explain", "--picture", str(picture)]) == 0
    output = capsys.readouterr().out
    assert output.count(": Because you chose ") == 2
    assert f"written into {picture} alone" in output.replace("\n", " ")
    assert picture.read_text().startswith("<svg ")
    assert picture.stat().st_mode & 0o777 == 0o600
    assert command([*line, "--picture", str(picture)]) == 2, "an older picture stays"
    capsys.readouterr()
    assert command([*line, "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for item, why in zip(found["items"], found["reasons"], strict=True):
        assert why["item"] == item["item"]
        assert sum(each["value"] for each in why["groups"]) == pytest.approx(why["score"] - why["baseline"])
    assert command(line) == 0
    assert "written nowhere" in capsys.readouterr().out.replace("\n", " ")
