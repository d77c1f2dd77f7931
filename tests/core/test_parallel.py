import os
from collections.abc import Iterator

import pytest
import torch

from fedrec.parallel import in_order, run_jobs

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def squares(count: int) -> torch.Tensor:
    result = torch.zeros(count, 8, 8)

    def work(position: int) -> None:
        matrix = torch.randn(8, 8, generator=torch.Generator().manual_seed(position))
        result[position] = matrix @ matrix

    run_jobs(work, ((position,) for position in range(count)), CPU)
    return result


def test_every_job_runs_and_the_number_of_threads_changes_no_bit(threads: int) -> None:
    expected = torch.stack(
        [(m := torch.randn(8, 8, generator=torch.Generator().manual_seed(position))) @ m for position in range(50)]
    )
    assert torch.equal(squares(50), expected)


def test_pytorch_keeps_its_number_of_threads(threads: int) -> None:
    squares(4)
    assert torch.get_num_threads() == threads


def test_a_job_computes_on_one_thread_and_may_start_jobs_itself(threads: int) -> None:
    seen: list[int] = []

    def outer(_: int) -> None:
        seen.append(torch.get_num_threads())
        run_jobs(lambda position: seen.append(torch.get_num_threads()), [(0,), (1,)], CPU)

    run_jobs(outer, [(position,) for position in range(10)], CPU)
    assert seen == [1] * 30


def test_results_come_in_order_and_jobs_are_taken_only_a_few_ahead(threads: int) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for position in range(30):
            taken.append(position)
            yield position

    for place, result in enumerate(in_order(lambda position: position * position, jobs(), CPU)):
        assert result == place * place
        assert len(taken) <= place + 2 + 4 * threads
    assert len(taken) == 30


def test_what_a_job_of_many_raises_reaches_who_takes_the_results(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda position: 1 / (position - 3), range(8), CPU))


def test_what_a_job_raises_reaches_the_caller(threads: int) -> None:
    def work(position: int) -> None:
        if position == 3:
            raise ValueError("job 3")

    with pytest.raises(ValueError, match="job 3"):
        run_jobs(work, ((position,) for position in range(8)), CPU)
    assert squares(3).shape == (3, 8, 8)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_threads_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = squares(5)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(squares(5), expected) else 1)
    torch.set_num_threads(before)
    assert os.waitpid(child, 0)[1] == 0
