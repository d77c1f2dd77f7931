"""The wire: what is packed comes back, coarse downloads keep their bound, and nothing else gets in."""

import hashlib
import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedrec import wire
from fedrec.wire import Packet, WireError, coarse, from_record, to_record

DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]
NAMES = st.text(max_size=12)
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
FACTS = st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False))


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def sent(record: RecordDict) -> RecordDict:
    """Send a packet through Flower's own serialisation, and return the received one."""
    message = recorddict_to_proto(record)
    return recorddict_from_proto(type(message).FromString(message.SerializeToString()))


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(), st.integers(-1, 1000), st.dictionaries(NAMES, FACTS), st.dictionaries(NAMES, ARRAYS))
def test_what_is_packed_comes_back_to_the_bit(kind, mark, round_index, facts, arrays) -> None:
    packet = Packet(kind, mark, round_index, facts, {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})
    found = from_record(sent(to_record(packet)))
    assert (found.kind, found.fingerprint, found.round, found.facts) == (kind, mark, round_index, facts)
    assert {name: type(value) for name, value in found.facts.items()} == {n: type(v) for n, v in facts.items()}
    assert found.tensors.keys() == packet.tensors.keys()
    for name, tensor in packet.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert found.tensors[name].shape == tensor.shape
        assert bits(found.tensors[name]) == bits(tensor)


def test_bfloat16_and_a_large_tensor_come_back() -> None:
    large = torch.arange(3_000_000, dtype=torch.float32).view(3000, 1000)
    odd = torch.linspace(-3, 3, 7).bfloat16()
    found = from_record(sent(to_record(Packet("x", tensors={"large": large, "odd": odd, "view": large.T[:3]}))))
    assert torch.equal(found.tensors["large"], large)
    assert torch.equal(found.tensors["odd"], odd)
    assert torch.equal(found.tensors["view"], large.T[:3])


FLOATS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=300, deadline=None)
@given(FLOATS)
def test_coarse_downloads_keep_their_bound(array) -> None:
    tensor = torch.from_numpy(array)
    exact = tensor.double()
    half, rows = (coarse(tensor, precision).double() for precision in ("float16", "int8"))
    assert half.shape == rows.shape == tensor.shape
    assert bool(((half - exact).abs() <= exact.abs() * 2.0**-11 + 2.0**-25).all())
    if tensor.dim() < 2 or not tensor.numel():
        assert torch.equal(rows, exact)
        return
    most = exact.flatten(1).abs().amax(1) / 254 * (1 + 2.0**-15) + 2.0**-126
    assert bool(((rows - exact).flatten(1).abs() <= most[:, None]).all())


def test_coarse_downloads_are_as_small_as_they_say_and_leave_other_tensors_alone() -> None:
    tensors = {"rows": torch.randn(100, 64), "flat": torch.randn(100), "where": torch.arange(100)}
    sizes = {p: wire.size(to_record(Packet("x", tensors=tensors), p)) for p in ("float32", "float16", "int8")}
    assert sizes == {"float32": 25600 + 400 + 800, "float16": 12800 + 200 + 800, "int8": 6400 + 400 + 400 + 800}
    found = from_record(to_record(Packet("x", tensors=tensors), "int8", keep=["rows"])).tensors
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("odd", [math.nan, math.inf, 1e6])
def test_what_a_coarse_form_cannot_hold_travels_as_it_is(odd) -> None:
    tensor = torch.full((2, 3), odd)
    assert bits(coarse(tensor, "float16")) == bits(tensor)
    if not math.isfinite(odd):
        assert bits(coarse(tensor, "int8")) == bits(tensor)


def test_digests_tell_types_shapes_and_bits_apart() -> None:
    zeros = torch.zeros(4)
    others = [zeros.view(2, 2), zeros.int(), -zeros, zeros[:3], zeros.double()]
    assert len({wire.digest(tensor) for tensor in [zeros, *others]}) == 6
    assert wire.digest(zeros) == wire.digest(zeros.clone())
    assert wire.fingerprint("a") != wire.fingerprint("b")


GOOD = Packet("sum", "mark", 3, {"users": 4}, {"a": torch.ones(2, 3)})


def changed(**facts) -> RecordDict:
    record = to_record(GOOD)
    for name, value in facts.items():
        if value is None:
            del record[wire.FACTS][name]
        else:
            record[wire.FACTS][name] = value
    return record


def with_array(*parts) -> RecordDict:
    record = to_record(GOOD)
    record[wire.TENSORS]["a"] = Array(*parts)
    return record


def test_short_bytes_travel_as_facts_without_a_record_of_tensors() -> None:
    """Each record, tensor and chunk is a request of its own: a message of bytes has the fewest."""
    packet = Packet("masks", "mark", 3, {"message": bytes(range(256)), "empty": b""})
    record = to_record(packet)
    assert set(record) == {wire.FACTS}
    assert from_record(sent(record)) == packet
    assert wire.size(record) == 256


def test_a_runs_fingerprint_stays_when_the_protocol_changes() -> None:
    """It is on run cards, so a run that an older version began is still the same run."""
    assert wire.fingerprint("a") == hashlib.sha256(b"fedrec wire 2\na").hexdigest()


def test_the_version_comes_first_and_is_told_in_one_line() -> None:
    for record in (changed(version=wire.VERSION + 1), changed(version=0, **{"fact.odd": [1, 2]})):
        with pytest.raises(WireError, match="install the same fedrec on server and nodes") as caught:
            from_record(record).expect("sum", "mark", 3)
        assert caught.value.code == "version"
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "mark", "round_index", "code"),
    [("hello", "mark", 3, "kind"), ("sum", "other", 3, "fingerprint"), ("sum", "mark", 4, "round")],
)
def test_another_kind_run_or_round_is_refused(kind, mark, round_index, code) -> None:
    GOOD.expect("sum", "mark", 3)
    with pytest.raises(WireError) as caught:
        GOOD.expect(kind, mark, round_index)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", [str, float, bool])
def test_a_fact_of_another_type_is_refused(kind) -> None:
    assert GOOD.fact("users", int) == 4
    with pytest.raises(WireError):
        GOOD.fact("users", kind)
    with pytest.raises(WireError):
        GOOD.fact("missing", int)


BAD = {
    "empty": RecordDict({}),
    "no tensors": RecordDict({wire.FACTS: ConfigRecord({"version": 1})}),
    "swapped": RecordDict({wire.FACTS: ArrayRecord({}), wire.TENSORS: ConfigRecord({})}),
    "more": RecordDict({**to_record(GOOD), "more": ConfigRecord({})}),
    "no round": changed(round=None),
    "a round of text": changed(round="3"),
    "a round of truth": changed(round=True),
    "a list": changed(**{"fact.list": [1, 2]}),
    "a list of bytes": changed(**{"fact.bytes": [b"1"]}),
    "no facts": RecordDict({wire.TENSORS: ArrayRecord({})}),
    "tensors that are facts": RecordDict({**to_record(Packet("x")), wire.TENSORS: ConfigRecord({})}),
    "pickled by numpy": with_array("object", (1,), "numpy.ndarray", b"\x80\x04K\x01."),
    "numpy's own": with_array("float32", (2, 3), "numpy.ndarray", bytes(24)),
    "an unknown type": with_array("complex64", (3,), wire.RAW, bytes(24)),
    "too short": with_array("float32", (2, 3), wire.RAW, bytes(23)),
    "too long": with_array("float32", (2, 3), wire.RAW, bytes(25)),
    "negative": with_array("float32", (-2, -3), wire.RAW, bytes(24)),
    "huge": with_array("float32", (1 << 40, 1 << 40), wire.RAW, b""),
    "a huge nothing": with_array("float32", (0, 1 << 62), wire.RAW, b""),
    "a nothing too huge to stride": with_array("float32", (1 << 31, 1 << 31, 1 << 31, 0), wire.RAW, b""),
    "a half of it": with_array("float32", (0, 1 << 31, 1 << 31, 1 << 31), wire.HALF, b""),
    "many dimensions": with_array("float32", (1,) * 40, wire.RAW, bytes(4)),
    "half of integers": with_array("int64", (2,), wire.HALF, bytes(4)),
    "rows of nothing": with_array("float32", (4,), wire.ROWS, bytes(20)),
    "truth": with_array("bool", (2,), wire.RAW, b"\x00\x02"),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_a_wire_error(name) -> None:
    with pytest.raises(WireError):
        from_record(BAD[name])


@pytest.mark.parametrize("thing", [None, 3, "text", {"fedrec": 1}, []])
def test_what_is_no_record_is_a_wire_error(thing) -> None:
    with pytest.raises(WireError):
        from_record(thing)


@pytest.mark.parametrize("arrays", ["torch", "numpy"])
@pytest.mark.parametrize("octets", [1, 2, 3, 5, 7, 8])
def test_sums_travel_in_the_bytes_that_public_numbers_ask_for(octets: int, arrays: wire.Arrays) -> None:
    edge = (1 << 8 * octets - 1) - 1
    for values in ([0, 0, 0, 0, 0, 0], [1, -1, 0, edge, -edge - 1, 7]):
        given = torch.tensor(values, dtype=torch.int64).view(2, 3)
        sent = given if arrays == "torch" else given.numpy()
        record = wire.to_record(wire.Packet("sums", tensors={"pairs": sent}, octets={"pairs": octets}))
        assert wire.size(record) == 6 * octets, "the length shows nothing of the numbers"
        found = wire.from_record(record, arrays).tensors["pairs"]
        assert np.array_equal(np.asarray(found), given.numpy())
        assert wire.digest(found) == wire.digest(given)
    if octets < 8:
        with pytest.raises(ValueError, match="do not hold"):
            wire.to_record(wire.Packet("sums", tensors={"pairs": given * 256}, octets={"pairs": octets}))


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [("int64", (3,), b"12345"), ("int64", (3,), b""), ("int64", (1,), b"123456789"), ("int32", (3,), b"123")],
)
def test_whole_numbers_of_an_odd_length_are_refused(dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(wire.WireError, match="do not fit"):
        wire._unpack(dtype, shape, wire.WHOLE, data, "numpy")
