"""The key stream as tensor operations: the bytes of `cryptography`, for any place, and the noise that it becomes."""

import hashlib

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.privacy import chacha, noise
from fedrec.privacy.noise import BLOCK, NoiseSource
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.testing.other_device import needs_other_device, other_device

CPU = torch.device("cpu")


def stream(key: bytes, first: int, blocks: int) -> bytes:
    nonce = first.to_bytes(4, "little") + bytes(12)
    return Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64 * blocks))


def made(key: bytes, first: int, blocks: int, device: torch.device = CPU) -> bytes:
    return chacha.key_stream(key, first, blocks, device).cpu().numpy().tobytes()


def test_the_published_vector() -> None:
    """RFC 8439, appendix A.1, the first two vectors."""
    assert made(bytes(32), 0, 1).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    assert made(bytes(32), 1, 1).hex().startswith("9f07e7be5551387a98ba977c732d080d")


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**32 - 5), st.integers(1, 5))
def test_same_bytes_as_the_library(key: bytes, first: int, blocks: int) -> None:
    assert made(key, first, blocks) == stream(key, first, blocks)


def test_no_number_of_a_block_is_used_twice() -> None:
    key = hashlib.sha256(b"key").digest()
    assert made(key, 2**31 - 1, 3) == stream(key, 2**31 - 1, 3)
    assert made(key, 2**32 - 3, 3) == stream(key, 2**32 - 3, 3)
    for first, blocks in ((2**32 - 3, 4), (2**32, 1)):
        with pytest.raises(ValueError, match="blocks"):
            made(key, first, blocks)


@pytest.mark.parametrize("size", [1, BLOCK + 1, 3 * BLOCK])
def test_a_device_draws_the_noise_of_the_processor(monkeypatch, size: int) -> None:
    compare_with_the_processor(monkeypatch, CPU, size)


@needs_other_device
def test_another_device_draws_the_noise_of_the_processor(monkeypatch) -> None:
    with other_device() as device:
        compare_with_the_processor(monkeypatch, device, BLOCK + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_noise_of_the_processor(monkeypatch) -> None:
    compare_with_the_processor(monkeypatch, torch.device("cuda"), 200 * BLOCK)


def compare_with_the_processor(monkeypatch, device: torch.device, size: int) -> None:
    if size < 10 * BLOCK:
        monkeypatch.setattr(noise, "_TOGETHER", 2)
    source = NoiseSource.from_seed(5)
    expected = np.concatenate(list(source.normal_blocks(3, "sum", size, 2)))
    drawn = torch.cat(list(source._drawn_on(device, 3, "sum", size, 2)))
    assert drawn.dtype == torch.float64
    assert drawn.device.type == device.type
    assert np.allclose(drawn.cpu().numpy(), expected, rtol=0, atol=1e-12)


@needs_other_device
def test_a_sum_on_another_device_is_released_there_with_the_same_noise() -> None:
    total = torch.arange(-30, 30).view(20, 3)
    released = []
    with other_device() as device:
        for where in (CPU, device):
            query = SumQuery("sum", (20, 3), 1.0, 1.0)
            plan = PrivacyPlan.build(PrivacyConfig(epsilon=1.0), [(query,)], 50, 1)
            plan.charge(0)
            found = plan.privatise(0, query, total.to(where))
            assert found.value.device.type == where.type
            released.append(found.value.cpu())
    step = released[0].diff().abs().min()
    assert torch.allclose(*released, rtol=0, atol=float(step) / 100)


def test_another_key_round_name_or_time_draws_other_noise() -> None:
    source = NoiseSource.from_seed(5)
    asked = [(3, "sum", 2), (4, "sum", 2), (3, "other", 2), (3, "sum", 1)]
    drawn = [next(source._drawn_on(CPU, number, name, 1000, time)) for number, name, time in asked]
    drawn.append(next(NoiseSource.from_seed(6)._drawn_on(CPU, 3, "sum", 1000, 2)))
    for other in drawn[1:]:
        assert abs((drawn[0] * other).mean()) < 5 / 1000**0.5
