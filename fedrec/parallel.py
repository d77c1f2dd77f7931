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
from contextlib import nullcontext
from functools import lru_cache
from typing import TypeVar

import torch

from fedrec.precision import full_precision
from fedrec.rowwise import active, rowwise

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 4  # jobs a thread that are begun before the first result is taken


def run_jobs(work: Callable[..., None], jobs: Iterable[tuple[object, ...]], device: torch.device) -> None:
    """Call `work(*job)` for every job; the rest as `in_order`."""
    for _ in in_order(lambda job: work(*job), jobs, device):
        pass


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], device: torch.device) -> Iterator[Result]:
    """`work(job)` of every job, in their order, on as many threads as PyTorch may use. Raises what a job raises.

    Jobs are taken as results are, a few ahead, so memory holds only those. device: where they compute; a GPU is fed by
    one thread. Jobs are solves and sums, in full precision: half precision is a setting of one thread, and the result
    would depend on their number. `fedrec.rowwise` lasts in the jobs where it lasts in the caller.
    """

    lasting = active()

    def exact(job: Job) -> Result:
        with full_precision(device), rowwise(device) if lasting else nullcontext():
            return work(job)

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:  # also inside a job: what it starts stays on its thread
        yield from map(exact, jobs)
        return
    begun: deque[Future[Result]] = deque()
    for job in jobs:
        begun.append(_pool(threads).submit(exact, job))
        if len(begun) > _AHEAD * threads:
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
