"""Long steps count, the front end that listens shows them, and no number depends on it."""

import threading

import pytest
import torch

from fedrec.data.catalogue import Catalogue, Texts
from fedrec.kernels.popularity import denoise
from fedrec.kernels.public import TEXTS, public_kernels, text_map
from fedrec.privacy.queries import PrivateSum
from fedrec.progress import EVERY, LONG, LongSteps, Step, listening, step


def _denoised() -> torch.Tensor:
    noisy = torch.randn(200, generator=torch.Generator().manual_seed(1)) * 3 + 4
    catalogue = Catalogue(tuple(map(str, range(200))))
    return denoise(PrivateSum(noisy, 2.0), public_kernels(catalogue, products=False))


def test_a_listener_gets_counts_up_to_the_total_and_the_bits_are_equal() -> None:
    silent = _denoised()
    seen: list[Step] = []
    with listening(seen.append):
        listened = _denoised()
    assert torch.equal(silent, listened)
    counts = [each.done for each in seen if not each.ended]
    assert {(each.name, each.total) for each in seen} == {("denoising popularity", 40)}
    assert counts == list(range(41))
    assert seen[-1] == Step("denoising popularity", 40, 40, ended=True)
    before = len(seen)
    _denoised()
    assert len(seen) == before, "it listens within its context alone"


def test_words_of_many_items_are_counted() -> None:
    items = TEXTS + 10
    seen: list[Step] = []
    with listening(seen.append):
        found = text_map(Texts("title", tuple(f"film number{item % 50}" for item in range(items))))
    assert found is not None
    counts = [each.done for each in seen if not each.ended]
    assert counts == [0, TEXTS, items, items + TEXTS, 2 * items]
    assert seen[-1] == Step("words of the items", 2 * items, 2 * items, ended=True)


def test_a_step_that_fails_ends_where_it_was() -> None:
    seen: list[Step] = []

    def work() -> None:
        with step("work", 3) as advance:
            advance()
            raise RuntimeError

    with listening(seen.append), pytest.raises(RuntimeError):
        work()
    assert seen[-1] == Step("work", 3, 1, ended=True)


def test_another_thread_does_not_count_as_this_one() -> None:
    seen: list[Step] = []

    def other() -> None:
        with step("other", 1) as advance:
            advance()

    with listening(seen.append):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == []


def test_a_short_step_is_no_line_and_a_long_one_few() -> None:
    seen: list[Step] = []
    now = [0.0]
    with listening(LongSteps(seen.append, clock=lambda: now[0])):
        with step("short", 5) as advance:
            for _ in range(5):
                now[0] += LONG / 10
                advance()
        assert seen == []
        with step("long", 100) as advance:
            for _ in range(100):
                now[0] += LONG / 2
                advance()
    lines = 1 + int((100 * LONG / 2 - LONG) / EVERY)
    assert [each.done for each in seen if not each.ended] == [2 + int(2 * EVERY / LONG) * n for n in range(lines)]
    assert seen[-1] == Step("long", 100, 100, ended=True)
