"""An encoder of another package is found by its entry point, and one that is none is one line."""

from pathlib import Path

import pytest

from fedrec import cli
from fedrec.data.encoded import encoders_of
from fedrec.encoders.base import encoders
from tests.docs.fences import ROOT, blocks
from tests.foreign import install

PAGE = next(code for code in blocks((ROOT / "docs/extending.md").read_text("utf-8"), "python") if "(Encoder)" in code)


def test_the_encoder_of_the_page_encodes_as_a_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {"fedrec.encoders:letters": "Letters", "fedrec.encoders:words": "Letters", "fedrec.encoders:bad": "np"}
    install(monkeypatch, tmp_path, "shop-encoders", "shop_encoders", PAGE, entries)
    assert "letters" in encoders()
    assert "bad" not in encoders()
    assert encoders()["words"].__module__ == "fedrec.encoders.words", "a built-in name means the built-in code"
    items, out = tmp_path / "items.csv", tmp_path / "v.parquet"
    items.write_text("item_id,title\na,Heat\nb,Alien\n")
    line = ["data", "encode", str(items), "--text", "title", "--out", str(out), "--encoder"]
    assert cli.run([*line, "letters"]) == 0
    assert encoders_of(out)["text_vector"].startswith("letters (1), sha256 ")
    assert cli.run([*line, "bad"]) == 2
    assert "is no concrete subclass of fedrec.encoders.base.Encoder" in capsys.readouterr().err
