"""A run on encoded items names the encoder in ledger and statement, and says nothing of users in the vectors."""

from pathlib import Path

import polars as pl

import fedrec

ITEMS = {"item_id": list("abcdef"), "title": ["Heat", "Alien", "Heat Two", "Alien Two", "Speed", ""]}


def log(folder: Path, events: str) -> Path:
    file = folder / f"{events}.csv"
    rows = [f"u{n % 5},{item}" for n, item in enumerate(events)]
    file.write_text("user_id,item_id\n" + "".join(f"{row}\n" for row in dict.fromkeys(rows)))
    return file


def test_the_statement_names_the_encoder_of_a_column(tmp_path: Path) -> None:
    vectors = tmp_path / "v.parquet"
    fedrec.encode(ITEMS, text="title", encoder="words", out=vectors)
    data = fedrec.read_log(log(tmp_path, "abcdefabcdefabcdef"), vectors=vectors)
    run = fedrec.simulate("popularity", data, epsilon=1, delta=1e-3, seed=1, out=tmp_path / "run")
    privacy = tmp_path / "run" / "release" / "privacy"
    assert "the catalogue's column 'text_vector' is said to come from the encoder words (rule 1), sha256" in (
        privacy / "statement.md"
    ).read_text(encoding="utf-8")
    assert fedrec.verify(run, trust_run_key=True).holds
    assert run.evaluate(metrics=["hr@1"])  # reads log and vectors again
    fedrec.encode(ITEMS | {"title": list("ABCDEF")}, text="title", encoder="words", out=vectors)
    changed = fedrec.read_log(log(tmp_path, "abcdefabcdefabcdef"), vectors=vectors)
    assert changed.dataset.catalogue.digest != data.dataset.catalogue.digest


def test_vectors_depend_on_no_event_of_any_user(tmp_path: Path) -> None:
    files, digests = [], []
    for events in ("abcdefabcdef", "fedcbafedcbafed"):
        folder = tmp_path / events
        folder.mkdir()
        file = folder / "v.parquet"
        fedrec.encode(ITEMS, text="title", encoder="words", out=file)
        data = fedrec.read_log(log(folder, events), file)
        files.append(file.read_bytes())
        digests.append(data.dataset.catalogue.digest)
    assert files[0] == files[1]
    assert digests[0] == digests[1]
    assert pl.read_parquet(file)["text_vector"].null_count() == 1
