"""Independent tensor jobs on the CPU's cores, one thread a job.

PyTorch splits every single operation over its threads and waits for all of them: for operations that take
microseconds the waiting dominates, and on a machine that others use too it grows a hundredfold. Here each job runs
whole on one thread. Jobs write to places of their own, so the number of threads changes no bit of the result.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

from fedrec.precision import full_precision

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[..., None], jobs: Iterable[tuple[object, ...]], device: torch.device) -> None:
    """Call `work(*job)` for every job, on as many threads as PyTorch may use. Raises what a job raises.

    device: where the jobs compute. A GPU is fed by one thread. Jobs are solves and sums, in full precision: half
    precision is a setting of one thread, and the result would depend on their number.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:  # also inside a job: what it starts stays on its thread
        with full_precision(device):
            for job in jobs:
                work(*job)
        return
    for _ in _pool(threads).map(lambda job: work(*job), jobs):
        pass


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """`work(job)` of every job, in their order, on as many threads as PyTorch may use on the CPU.

    Jobs are taken as results are, a few ahead, so memory holds a job and a result for each thread. Raises what a job
    raises.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield from map(work, jobs)
        return
    begun: deque[Future[Result]] = deque()
    for job in jobs:
        begun.append(_pool(threads).submit(work, job))
        if len(begun) > threads:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread adopts the number when it first needs one; later it would be another's


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, "fedrec", initializer=_one_thread)
    all_started = threading.Barrier(threads)
    for _ in pool.map(lambda _: all_started.wait(), range(threads)):
        pass
    # The call holds for the thread that makes it, but it also leaves its number to threads that start later.
    torch.set_num_threads(threads)
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of the threads
