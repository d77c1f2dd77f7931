"""Times and private attributes beside the events: every operation keeps them with their user, against slow lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fedrec
from fedrec.data import splits
from fedrec.data.histories import Histories
from fedrec.data.movielens import read_ml_1m, read_ml_100k
from fedrec.data.new_items import only
from fedrec.data.people import People
from fedrec.data.people_tables import read_people
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.federation.hosted import HostedUsers

ITEMS = 9
Person = tuple[list[tuple[int, float]], dict[str, str]]
"""(item, time) of each event, and the known attributes."""
events = st.lists(st.tuples(st.integers(0, ITEMS - 1), st.sampled_from([1e9, 1.5e9, 2e9 + 0.25, np.nan])), max_size=6)
attributes = st.fixed_dictionaries(
    {}, optional={"age": st.sampled_from(["18", "35.5"]), "gender": st.sampled_from(["F", "M"])}
).map(lambda who: dict(sorted(who.items())))
everybody = st.lists(st.tuples(events, attributes), min_size=1, max_size=7)


FEW = settings(max_examples=15)


def histories(people: list[Person]) -> Histories:
    rows = [row for row, _ in people]
    coded = [(" FM".find(who.get("gender", " ")) - 1, float(who.get("age", "nan"))) for _, who in people]
    values = torch.tensor([(age, np.nan if code < 0 else code) for code, age in coded], dtype=torch.float64)
    return Histories(
        np.cumsum([0, *map(len, rows)]),
        np.array([item for row in rows for item, _ in row], dtype=np.int32),
        ITEMS,
        times=np.array([time for row in rows for _, time in row], dtype=np.float64),
        identities=np.arange(len(rows), dtype=np.int64) + 100,
        people=People(("age", "gender"), ((), ("F", "M")), values),
    )


def listed(users: Histories | UserBatch) -> list[Person]:
    """The slow way back: one user after another."""
    assert users.times is not None
    assert users.people is not None
    offsets, found = users.offsets.tolist(), []
    for user in range(len(users)):
        some = slice(offsets[user], offsets[user + 1])
        row = list(zip(users.items[some].tolist(), users.times[some].tolist(), strict=True))
        found.append((row, users.people.person(user)))
    return found


def same(found: list[Person], expected: list[Person]) -> None:
    assert repr(found) == repr(expected)  # as text, since NaN is not NaN


@FEW
@given(everybody)
def test_a_batch_has_what_the_log_has(people: list[Person]) -> None:
    users = histories(people)
    same(listed(users), people)
    same(listed(users.batch(np.arange(len(people)), 3)), people)


@FEW
@given(everybody, st.data())
def test_selecting_users_takes_their_times_and_attributes_along(people: list[Person], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(people) - 1), min_size=1, max_size=9))
    expected = [people[user] for user in chosen]
    users, batch = histories(people), histories(people).batch(np.arange(len(people)), 0)
    same(listed(users.select(np.array(chosen))), expected)
    same(listed(batch.take(torch.tensor(chosen))), expected)
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(people)), st.integers(0, len(people)))))
    same(listed(batch.slice(start, stop)), people[start:stop])


@FEW
@given(everybody, st.data())
def test_dropping_events_drops_their_times_alone(people: list[Person], data: st.DataObject) -> None:
    users = histories(people)
    batch, counts = users.batch(np.arange(len(people)), 0), [data.draw(st.integers(0, 7)) for _ in people]
    shorter = [(row[: max(0, len(row) - count)], who) for (row, who), count in zip(people, counts, strict=True)]
    same(listed(batch.without_newest(torch.tensor(counts))), shorter)
    gone = data.draw(st.integers(0, ITEMS - 1))
    left = [([event for event in row if event[0] != gone], who) for row, who in people]
    same(listed(users.keep(users.items != gone)), left)
    same(listed(batch.where(batch.items != gone)), left)
    firsts = [
        ([e for place, e in enumerate(row) if e[0] not in [x for x, _ in row[:place]]], who) for row, who in people
    ]
    same(listed(batch.without_repeats()), firsts)
    half = np.arange(0, ITEMS, 2)
    even = [([(item // 2, time) for item, time in row if item % 2 == 0], who) for row, who in people]
    same(listed(only(users, half)), even)


@FEW
@given(everybody, st.integers(0, 3))
def test_orders(people: list[Person], seed: int) -> None:
    users = histories(people)
    drawn = users.permuted(users.random_order(seed))
    same([(sorted(row, key=repr), who) for row, who in listed(drawn)], [(sorted(r, key=repr), w) for r, w in people])
    forgotten = users.forgotten(seed)
    assert forgotten.times is None
    assert forgotten.people is users.people
    unordered = users.batch(np.arange(len(people)), 0).unordered()
    assert unordered.times is None
    assert unordered.people is not None
    assert users.joined(users).people is users.people


@FEW
@given(everybody, st.integers(1, 3), st.integers(1, 6))
def test_chunks_of_a_round_and_kept_ones(people: list[Person], users: int, most: int) -> None:
    hosted = HostedUsers(histories(people), seed=1, batch_users=users, batch_events=most)
    for _ in range(2):  # the second time from memory
        same([one for chunk in hosted.chunks(np.arange(len(people))) for one in listed(chunk)], people)


@FEW
@given(everybody)
def test_strangers_have_no_attributes(people: list[Person]) -> None:
    known = histories(people).people
    assert known is not None
    more = known.with_strangers(2)
    assert [more.person(row) for row in range(len(more))] == [who for _, who in people] + [{}, {}]
    again = People.of([who for _, who in people])
    assert [again.person(row) for row in range(len(again))] == [who for _, who in people]


def test_memory_counts_them() -> None:
    batch = histories([([(1, 2.0)], {"gender": "F"})]).batch(np.array([0]), 0)
    assert batch.held_bytes == replace(batch, people=None, times=None).held_bytes + 8 + 16


# ---- files

LOG = {"user_id": [7, 7, 8, 9, 9], "item_id": [1, 2, 1, 3, 1], "timestamp": [50, 40, 30, 20, 10]}


def test_a_table_meets_its_users_in_any_order(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("user_id,gender,age,zip\n9,F,,007\n7, M ,35,12\n1234,F,99,13\n")
    pl.DataFrame(LOG).write_csv(tmp_path / "log.csv")
    data = fedrec.read_log(tmp_path / "log.csv", people=file)
    assert data.attributes(9) == {"gender": "F", "zip": "007"}
    assert data.attributes(7) == {"gender": "M", "age": "35", "zip": "12"}
    assert data.attributes(8) == {}
    assert "1234" not in repr(data.dataset.histories)
    in_memory = fedrec.read_log(
        LOG, people={"user_id": [9, 7], "gender": ["F", "M"], "age": [None, 35], "zip": ["007", "12"]}
    )
    assert [in_memory.attributes(user) for user in (7, 8, 9)] == [data.attributes(user) for user in (7, 8, 9)]
    times = in_memory.dataset.histories.times
    assert times is not None
    assert times.tolist() == [40, 50, 30, 10, 20]


def test_ids_of_text_and_of_numbers_meet(tmp_path: Path) -> None:
    people = {"user_id": ["7", "x"], "lang": ["fi", "sv"]}
    assert fedrec.read_log(LOG, people=people).attributes(7) == {"lang": "fi"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_id,age\n1,3\n1,secret-4\n", r"people.csv, line 2: a user has two rows; keep one"),
        ("who,age\n1,secret-4\n", r"people.csv: needs a column 'user_id'"),
        ("user_id,user\n1,secret-4\n", r"has a column 'user' beside the ids"),
        ("user_id,age\n,secret-4\n", r"people.csv, line 2: 'user_id' is missing"),
    ],
)
def test_bad_tables_are_one_line_without_a_value(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "people.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read_people(file)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_movielens_people(tmp_path: Path) -> None:
    old, hundred = tmp_path / "ml-1m", tmp_path / "ml-100k"
    old.mkdir()
    hundred.mkdir()
    (old / "movies.dat").write_text("1::Toy Story (1995)::Comedy\n2::Heat (1995)::Action\n")
    (old / "ratings.dat").write_text("1::1::5::978300760\n2::2::3::978302109\n")
    (old / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-11\n")
    people = read_ml_1m(old).people
    assert people is not None
    assert people.rows() == [(1, 1.0, "F", 10.0), (2, 56.0, "M", 16.0)]
    (hundred / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1\t5\t9e8\n"
    )
    (hundred / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tA\t1995\tB\n"
    )
    assert read_ml_100k(hundred).people is None
    header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    (hundred / "ml-100k.user").write_text(header + "1\t24\tM\ttechnician\t85711\n")
    people = read_ml_100k(hundred).people
    assert people is not None
    assert people.rows() == [(1, 24.0, "M", "technician")]
    recbole = read_people(hundred / "ml-100k.user")
    assert recbole.columns == ["user", "age", "gender", "occupation", "zip_code"]


def test_cold_users_keep_their_attributes_where_they_know_no_event() -> None:
    users = [user for user in range(60) for _ in range(12)]
    log = {"user_id": users, "item_id": [n % 13 for n in range(720)], "timestamp": list(range(720))}
    people = {"user_id": list(range(60)), "sign": [f"s{user}" for user in range(60)]}
    data = fedrec.split(fedrec.read_log(log, people=people), "cold-users", share=0.2, known=0)
    made = splits.split(data.dataset, "cold-users", "test", 0)
    assert made.device.people is not None
    assert made.train.people is not None
    assert made.device.identities is not None
    assert made.train.identities is not None
    for part in (made.device, made.train):
        assert [part.people.person(row)["sign"] for row in range(len(part))] == [f"s{user}" for user in part.identities]
    assert not set(made.train.identities) & set(made.device.identities)
