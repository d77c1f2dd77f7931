"""Every message comes back from its bytes, and every other spelling is refused."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import FedrecError, InputError
from fedrec.secagg import (
    Advertise,
    Confirmation,
    Confirmations,
    HelperInput,
    KeyList,
    Malformed,
    MaskedInput,
    Members,
    Opening,
    OpenRequest,
    Round,
    Shares,
    Survivors,
    Unmasking,
)
from fedrec.secagg.helper_messages import SealedSeed
from fedrec.secagg.shamir import PRIME
from tests.core.secagg.parties import round_of

ROUND = round_of(Members.generate(5), helper=b"h" * 32)
KEYS = [Advertise(member, b"a" * 32, b"b" * 32, b"s" * 64) for member in (1, 4)]
SEEDS = tuple(SealedSeed(member, b"e" * 80, b"s" * 64) for member in (0, 3))
CONFIRMED = tuple(Confirmation(member, b"s" * 64) for member in (2, 9))
MESSAGES = [
    *KEYS[:1],
    KeyList(tuple(KEYS)),
    Shares(3, ((1, b"x" * 148), (2, b"y" * 148))),
    MaskedInput(3, b"c" * 32, b"vector"),
    Survivors((1, 5, 2**24 - 1)),
    CONFIRMED[0],
    Confirmations(CONFIRMED),
    Unmasking(3, ((1, 5), (2, PRIME - 1)), ((4, 0),)),
    HelperInput(SEEDS[0], b"vector"),
    OpenRequest(ROUND, SEEDS, b"charge"),
    Opening(b"d" * 32, b"masks"),
    ROUND,
]
OPEN_ENDED = (MaskedInput, HelperInput, OpenRequest, Opening)


def encoded(message: object) -> bytes:
    return message.encoded if isinstance(message, Round) else message.encode()


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_and_no_part_of_it_passes(message):
    data, kind = encoded(message), type(message)
    assert kind.decode(data) == message
    fixed = len(data) - {MaskedInput: 6, HelperInput: 6, OpenRequest: 6, Opening: 5}.get(kind, 0)
    for end in range(fixed):
        with pytest.raises(FedrecError):
            kind.decode(data[:end])
    if kind not in OPEN_ENDED:
        with pytest.raises(FedrecError):
            kind.decode(data + b"\x00")
    with pytest.raises(Malformed):
        kind.decode(b"XX1" + data[3:])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MESSAGES), st.data())
def test_changed_bytes_are_refused_or_are_another_message_in_its_one_spelling(message, data):
    content = bytearray(encoded(message))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = type(message).decode(bytes(content))
    except FedrecError:
        return
    assert encoded(found) == bytes(content)


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(message, content):
    for data in (content, encoded(message)[:3] + content):
        try:
            found = type(message).decode(data)
        except FedrecError:
            continue
        assert encoded(found) == data


@pytest.mark.parametrize(
    "message",
    [
        KeyList((KEYS[1], KEYS[0])),
        Survivors((2, 2)),
        Survivors((2**24,)),
        Confirmations(CONFIRMED[::-1]),
        Shares(1, ((2, b"x" * 148), (2, b"y" * 148))),
        Unmasking(3, ((1, PRIME),), ()),
        Unmasking(3, (), ((2, 1), (1, 1))),
        OpenRequest(ROUND, SEEDS[::-1], b""),
    ],
)
def test_what_no_member_sends_is_malformed(message):
    with pytest.raises(Malformed):
        type(message).decode(message.encode())


def test_a_round_with_impossible_fractions_is_refused_as_every_other_one():
    data = bytearray(ROUND.encoded)
    at = 3 + 4 * 32 + 4 * 8  # the corrupt fraction, in millionths
    data[at : at + 8] = (10**15).to_bytes(8, "big")
    with pytest.raises(InputError, match="together below 1"):
        Round.decode(bytes(data))


def test_a_count_beyond_the_message_costs_nothing():
    with pytest.raises(Malformed, match="ends early"):
        Survivors.decode(b"SU1" + b"\xff" * 4)


def test_the_package_loads_numpy_and_cryptography_alone():
    program = (
        "import sys, fedrec.secagg, fedrec.secagg.charges\n"
        "heavy = {'torch', 'scipy', 'flwr', 'opacus', 'polars', 'pydantic', 'typer', 'rich', 'matplotlib', 'pandas'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
