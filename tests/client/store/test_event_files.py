"""Events from files: what is read as what, and one line with the place for all else; and the export."""

import base64
import json
from pathlib import Path

import pytest
from fedrec_client.store import Event, export_my_data, read_events

from fedrec.errors import InputError
from tests.client.store.stores import filled, items, opened


def read(folder: Path, text: str, name: str = "events.csv") -> list[Event]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_events(folder / name)


RIGHT = {
    "item_id\na\nb\n": [Event("a"), Event("b")],
    "\ufeffitem_id,timestamp\r\na,1600000000\r\nb,NA\r\n": [Event("a", time=1.6e9), Event("b")],
    "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,7,,\n": [
        Event("31", "rating", 1260759144.0, 2.5),
        Event("7"),
    ],
    'event,item,weight\nlike,"a, b",2\n,"say ""x""",\n': [Event("a, b", "like", weight=2.0), Event('say "x"')],
    "item,time\na,1600000000500\nb,1600000001000\n": [Event("a", time=1600000000.5), Event("b", time=1600000001.0)],
    "item,time\na,2020-01-31\nb,2020-01-31T10:11:12Z\nc,2020-01-31 12:11:12+02:00\n": [
        Event("a", time=1580428800.0),
        Event("b", time=1580465472.0),
        Event("c", time=1580465472.0),
    ],
    "item\n\n a \n": [Event("a")],
}


@pytest.mark.parametrize("text", RIGHT)
def test_a_table_is_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == RIGHT[text]
    if '"' not in text:
        assert read(tmp_path, text.replace(",", "\t"), "events.tsv") == RIGHT[text]


def test_json_lines_are_read(tmp_path: Path) -> None:
    text = '{"item": 5, "kind": "like"}\n\n{"item_id": "a", "x": [1]}\n'
    with pytest.raises(InputError, match="columns 'item' and 'item_id'"):
        read(tmp_path, text, "events.jsonl")
    found = read(tmp_path, text.replace("item_id", "item"), "events.ndjson")
    assert found == [Event("5", "like"), Event("a")]


WRONG = {
    "": "has no events",
    "item\n": "has no events",
    "item_id,item_id\na,b\n": "line 1: two columns have one name",
    "item_id,kind\na\n": "line 2: has 1 cells, and line 1 has 2",
    "movie,kind\na,like\n": "has no column 'item_id'. Is it 'movie'? Then rename that column",
    "x,y\na,like\n": "has no column 'item_id'; name it",
    "item_id,date\na,2020-01-31\n": "has no column 'timestamp'. Is it 'date'?",
    "item_id,kind\na,like\n,like\n": "line 3: an event's item has 0 bytes",
    "item_id,rating\nsecret,much\n": "line 2: a time or a weight is not recognised",
    "item_id,time\nsecret,noon\n": "line 2: a time or a weight is not recognised",
    "item_id,time\na,1600000000000\nb,1600000000\n": "line 3: its time has another unit",
    "item_id,time\na,20200131\n": "line 2: its time looks like a date",
    "item_id,weight\na,inf\n": "line 2: an event's weight is no number",
    "item_id,time,timestamp\na,1,1\n": "columns 'time' and 'timestamp' for the time",
    "user_id,item_id\n1,a\n2,b\n": "has events of 2 users",
    'item_id\n"a\n': "no CSV",
    "item_id,kind\na,like\0\n": "line 2: ",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_fault_is_one_line_with_its_place_and_without_a_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'events.csv'}")
    assert WRONG[text] in message
    assert "secret" not in message
    assert "noon" not in message


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"item": "a"', "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"item": "a", "weight": NaN}', "weight is no number"),
        ('{"item": 1.5}', "item is of type float"),
        ('{"item": null}', "item has 0 bytes"),
        ('{"item": "a", "kind": 3}', "kind is of type int"),
        ('{"item": "a", "time": true}', "not recognised"),
        ('{"item": "a", "time": {}}', "not recognised"),
        ("[" * 100_000, "no JSON object"),
    ],
    ids=range(9),
)
def test_a_fault_in_json_lines(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as error:
        read(tmp_path, f'{{"item": "ok"}}\n{line}\n', "events.jsonl")
    assert "line 2: " in str(error.value)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"item_id\n\xe9\n")
    for name, why in (
        ("latin.csv", "no UTF-8"),
        ("none.csv", "cannot be read"),
        ("a.parquet", "format not recognised"),
    ):
        with pytest.raises(InputError, match=why):
            read_events(tmp_path / name)


def test_a_real_log_of_one_user(tmp_path: Path, data_dir: Path) -> None:
    lines = (data_dir / "ml-latest-small" / "ratings.csv").read_text().splitlines()
    own = [lines[0], *(line for line in lines if line.startswith("7,"))]
    found = read(tmp_path, "\n".join(own))
    assert len(found) == 152
    assert {event.kind for event in found} == {"rating"}
    with pytest.raises(InputError, match="has events of 610 users"):
        read_events(data_dir / "ml-latest-small" / "ratings.csv")


def test_what_is_exported_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    with filled(tmp_path, 20) as store:
        store.append(Event("é 'x'\n", "rating", None, 1 / 3))
        store.set_state("age", b"30")
        store.set_state("vector", b"v", derived=True)
        assert export_my_data(store, file) == 22
        events = [each.event for each in store.events()]
        with pytest.raises(InputError, match="exists already"):
            export_my_data(store, file)
        with pytest.raises(InputError, match="cannot be written"):
            export_my_data(store, tmp_path / "none" / "mine.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
    last = json.loads(file.read_text().splitlines()[-1])
    assert last == {"record": "state", "name": "age", "base64": base64.b64encode(b"30").decode()}
    assert read_events(file) == events
    with opened(tmp_path, "new") as store:
        store.append_many(read_events(file))
        assert items(store) == [event.item for event in events]


def test_an_export_of_a_closed_store_leaves_no_file(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    store.close()
    with pytest.raises(InputError, match="closed"):
        export_my_data(store, tmp_path / "mine.jsonl")
    assert not (tmp_path / "mine.jsonl").exists()
