"""One stay of a device at a server: eligible before and during, interruptible, and over at a deadline.

The device's own node polls the server; nothing connects to the device. A round that is under way when the stay ends is
lost to the server, as one of a device without a network, and stays charged.

| the stay ends | `Ended` |
|---|---|
| the rounds that were asked for are answered | `DONE` |
| at its deadline | `DEADLINE` |
| by the caller's event | `STOPPED` |
| before it began, or within it, since a condition of the policy is not met | `NOT_ELIGIBLE` |
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path

from fedrec.errors import InputError
from fedrec.transport.executor import OURS
from fedrec.transport.processes import Children
from fedrec.transport.state import State
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import policy_of, prepared
from fedrec_client.consent.policy import DevicePolicy
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.hosting import Server, Users, attempt
from fedrec_client.node_config import STORE
from fedrec_client.participation import conditions as conditions_of_linux
from fedrec_client.participation.conditions import Source
from fedrec_client.participation.eligibility import Obstacle, obstacles
from fedrec_client.participation.retrying import Backoff
from fedrec_client.participation.store_mark import StoreMark
from fedrec_client.participation.stored_user import StoredUser
from fedrec_client.store import Store

LOOK_SECONDS = 5.0
"""Seconds from one look at the conditions and the ledger to the next."""

QUIET_SECONDS = 10.0
"""Seconds without a new charge after which the rounds that were asked for count as answered."""

OWN_TASKS = 1.0
"""Runnable tasks of the device's own node, which are not counted as load while it runs."""


class Ended(Enum):
    """Why a stay ended."""

    DONE = "done"
    DEADLINE = "deadline"
    STOPPED = "stopped"
    NOT_ELIGIBLE = "not eligible"


@dataclass(frozen=True)
class Participation:
    """What became of a stay.

    Attributes:
        ended: why it ended.
        charged: rounds that the device paid for, whether it gave data or zeros.
        obstacles: what stood against taking part, where the device was not eligible.
    """

    ended: Ended
    charged: int = 0
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How long a stay may last, and who may end it.

    Attributes:
        seconds: until the deadline.
        rounds: rounds after which it ends; None to stay until the deadline.
        stop: ends it when it is set.
        conditions: source of the device's conditions.
        backoff: waits between tries to reach the server.
    """

    seconds: float = 3600.0
    rounds: int | None = None
    stop: threading.Event | None = None
    conditions: Source = conditions_of_linux.linux
    backoff: Backoff = Backoff()

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise InputError("participate: seconds must be a number above 0")
        if self.rounds is not None and self.rounds < 1:
            raise InputError("participate: rounds must be 1 or more, or None")


def participate(
    folder: Path,
    store: Store,
    server: Server,
    items: Path,
    plan: Plan,
    *,
    catalogue: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    app: str = OURS.client,
) -> Participation:
    """Take part in the runs of a server, by the policy and the ledger in the device's folder.

    Args:
        folder: of the device.
        store: its open store.
        server: where it is, and the device's key.
        items: file of the run's items (`fedrec.ondevice.run_items.RunItems`).
        plan: how long.
        catalogue: file of the public items, as the server has it, for algorithms that need torch; None to refuse these.
        say: receives a line for each event.
        app: the ClientApp that answers.

    Raises:
        InputError: for files that cannot be used, a store that needs a passphrase, which the node's own process cannot
            ask for, and a server that refuses the device for good.
        VerificationError: for a damaged ledger.
    """
    StoredUser(DeviceFolder(folder)).opened().close()  # as the node's own process will, which can ask for nothing
    watch = _Watch(folder, plan, policy_of(folder).device)
    config = {STORE: str(folder), "items": str(items.absolute()), "state": str(folder), "key": str(server.key)}
    config |= {} if catalogue is None else {"catalogue": str(catalogue.absolute())}
    config |= prepared(folder, None, say)
    if standing := watch.obstacles(first=True):
        return Participation(Ended.NOT_ELIGIBLE, obstacles=tuple(each.text for each in standing))
    StoreMark(folder, store).renew(time.time())
    state = State(folder)
    with state.claim():
        made = Children(say)
        try:
            for wait in _tries(server, Users(config, app), state, made, say, watch):
                made.end()
                watch.sleep(wait)
        finally:
            made.end()
    assert watch.ended is not None
    return Participation(watch.ended, watch.charged(), tuple(each.text for each in watch.standing))


def _tries(
    server: Server, users: Users, state: State, made: Children, say: Callable[[str], None], watch: "_Watch"
) -> Iterator[float]:
    """Run the node until the stay is over; yield the seconds to wait before it is started again."""
    waits = watch.plan.backoff.waits()
    while not watch.over():
        problem, welcome = attempt(server, users, state, None, made, say, watch.over)
        if welcome is not None:
            waits = watch.plan.backoff.waits()
        if watch.ended is None:
            wait = next(waits)
            say(f"{problem}; trying again in {wait:.0f} s")
            yield wait


class _Watch:
    """Decides when a stay is over."""

    def __init__(self, folder: Path, plan: Plan, policy: DevicePolicy) -> None:
        self.plan = plan
        self.ended: Ended | None = None
        self.standing: tuple[Obstacle, ...] = ()
        self._folder, self._policy = folder, policy
        self._ledger: DeviceLedger | None = None
        self._until = time.monotonic() + plan.seconds
        self._looked = self._changed = time.monotonic()
        self._before, self._seen = self._charges(), 0

    def obstacles(self, *, first: bool = False) -> tuple[Obstacle, ...]:
        """Return what stands against taking part now. first: before the stay, of which nothing runs yet."""
        policy, last, since = self._policy, None, None
        if first and (self._folder / FILE).exists():
            with self._read().reading() as ledger:
                last = ledger.accounts.last_charge
                since = None if last is None else time.time() - last
        if not first and policy.load > 0:
            policy = replace(policy, load=policy.load + OWN_TASKS / (os.cpu_count() or 1))
        return obstacles(policy, self.plan.conditions(), datetime.now(), since)

    def over(self) -> bool:
        """Whether the stay is over; looks at conditions and ledger every `LOOK_SECONDS`."""
        now = time.monotonic()
        if self.ended is None and self.plan.stop is not None and self.plan.stop.is_set():
            self.ended = Ended.STOPPED
        if self.ended is None and now >= self._until:
            self.ended = Ended.DEADLINE
        if self.ended is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look(now)
        return self.ended is not None

    def sleep(self, seconds: float) -> None:
        """Wait, or return as soon as the stay is over."""
        end = time.monotonic() + seconds
        while not self.over() and time.monotonic() < end:
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))

    def charged(self) -> int:
        """Rounds that were charged since the stay began."""
        return self._charges() - self._before

    def _look(self, now: float) -> None:
        if standing := self.obstacles():
            self.ended, self.standing = Ended.NOT_ELIGIBLE, standing
            return
        charged = self.charged()
        if charged != self._seen:
            self._seen, self._changed = charged, now
        wanted = self.plan.rounds
        if wanted is not None and charged >= wanted and now - self._changed >= QUIET_SECONDS:
            self.ended = Ended.DONE

    def _charges(self) -> int:
        if not (self._folder / FILE).exists():
            return 0
        with self._read().reading() as ledger:
            return ledger.kinds["charge"]

    def _read(self) -> DeviceLedger:
        if self._ledger is None:
            self._ledger = DeviceLedger(self._folder / FILE, policy_of(self._folder))
        return self._ledger
