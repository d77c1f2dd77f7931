"""The state behind the page: the person's device, the federation around it, and the rounds that the person starts.

The main thread does all that takes long, in the order of `Demo.work`; the page reads `Demo.view` from other threads.
"""

import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedrec_client import EdgeClient, KeyFile
from fedrec_client.consent.files import POLICY, write_policy
from fedrec_client.consent.policy import DevicePolicy, PeriodPolicy, Policy, RunPolicy

from fedrec.errors import FedrecError, InputError
from fedrec.screen import say
from fedrec_sim.demo.federation import Federation, federation, first_model
from fedrec_sim.demo.participation import taking_part
from fedrec_sim.demo.world import World

FIRST = ("privacy.epsilon=4",)
"""Settings of the first model, which the other people train without the person."""
ROUND = (
    *("algorithm.name=popularity", "privacy.trust=distributed", "privacy.epsilon=1", "evaluation.every=0"),
    *("federation.deadline=180", "federation.patience=60"),
)
"""Settings of a run in which the person takes part: one round, masked, with the noise of the devices."""
POLICY_OF_PERSON = Policy(
    run=RunPolicy(epsilon=2.0),
    period=PeriodPolicy(epsilon=6.0),
    device=DevicePolicy(on_power=False, battery=0.0, unmetered=False, load=0.0, separation_hours=0.0),
)
"""At most six rounds in 90 days. The conditions of a phone (mains power, hours between rounds) are off in the demo."""
CODE_SECONDS = 600.0
POPULAR = 5


@dataclass(frozen=True)
class Step:
    """Something that the demo did, or does now. Attributes: text: for people; seconds: how long it took so far."""

    text: str
    seconds: float


@dataclass(frozen=True)
class View:
    """What the page shows of the federation.

    Attributes:
        phase: starting, ready or round.
        steps: of the start, or of the latest round.
        model: whether the first model is installed.
        hubs: number of hubs.
        people: number of the other people.
        rounds: runs that the person took part in, and that ended well.
        fault: why the latest round failed; one line.
        popular: ids of the most popular items, as the latest round counted them.
        changes: rises when the device's ledger may have changed.
    """

    phase: str
    steps: tuple[Step, ...]
    model: bool
    hubs: int
    people: int
    rounds: int
    fault: str | None
    popular: tuple[str, ...]
    changes: int


@dataclass
class Demo:
    """The demo. Run `work` in the main thread: child processes end with their signals.

    Attributes:
        folder: a new folder for all files.
        world: the catalogue and the other people.
        link: called with each code by which a page gets the token once.
    """

    folder: Path
    world: World
    link: Callable[[str], None]
    token: str = ""
    _steps: list[tuple[str, float, float | None]] = field(default_factory=list)
    _orders: "queue.Queue[bool]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        place = self.folder / "device"
        place.mkdir(parents=True, mode=0o700)
        write_policy(place / POLICY, POLICY_OF_PERSON)
        self.client = EdgeClient.open(place, KeyFile(place / "events.key"))
        self._lock = threading.RLock()
        self._phase, self._fault, self._model, self._rounds, self._changes = "starting", "", False, 0, 0
        self._popular: tuple[str, ...] = ()
        self._code = ("", 0.0)

    # ---- the page's way in

    def new_code(self) -> None:
        """Make the code of the next page, which is valid once and for ten minutes."""
        with self._lock:
            self._code = (secrets.token_urlsafe(16), time.monotonic() + CODE_SECONDS)
        self.link(self._code[0])

    def enter(self, code: str) -> str:
        """Exchange a code for the token. Raises: InputError for a wrong, used or old one."""
        with self._lock:
            known, until = self._code
            if not known or time.monotonic() > until or not secrets.compare_digest(code.encode(), known.encode()):
                raise InputError("the link was used, or is too old; take the last one that the terminal shows")
            self._code = ("", 0.0)
        self.new_code()
        return self.token

    # ---- what the page reads and starts

    def view(self) -> View:
        """Return the present state."""
        with self._lock:
            now = time.monotonic()
            steps = tuple(Step(text, (now if end is None else end) - begin) for text, begin, end in self._steps)
            return View(
                self._phase, steps, self._model, len(self.world.hubs), self.world.people, self._rounds,
                self._fault or None, self._popular, self._changes,
            )  # fmt: skip

    def start_round(self) -> None:
        """Let the person take part in a round. Raises: InputError while another one runs."""
        with self._lock:
            if self._phase != "ready":
                raise InputError("the federation is not ready; wait for the end of the present step")
            self._phase, self._fault, self._steps = "round", "", []
        self._orders.put(True)

    def stop(self) -> None:
        """End `work` after the present step."""
        self._orders.put(False)

    # ---- the thread

    def work(self) -> None:
        """Train the first model, start the federation, and run a round for each order, until `stop` or Ctrl-C.

        Raises: FedrecError where the first model or the federation fails. A round that fails is shown on the page.
        """
        self._step(f"The first model is trained on the {self.world.people} other people")
        self.client.install(first_model(self.folder, self.world, FIRST), public=self.world.public)
        self._note(model=True)
        self._step(f"A server and {len(self.world.hubs)} hubs start, with keys and encrypted connections")
        with federation(self.folder / "federation", self.world) as running:
            self._ended("ready")
            try:
                while self._orders.get():
                    self._round(running)
            except KeyboardInterrupt:
                say("The server and the hubs end; this takes some seconds.", err=True)
                raise

    def _round(self, running: Federation) -> None:
        out = self.folder / "runs" / f"round-{self._rounds + 1}-{secrets.token_hex(3)}"
        out.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            self._step("Your device connects to the server, and checks its certificate")
            with taking_part(self.client, running, self.world) as check:
                running.wait(running.hubs + 1, check)
                self._step("The server asks. Your device checks the terms, pays, and answers with a masked sum")
                nodes = f"engine.nodes={running.hubs + 1}"
                run = running.run(out, [*ROUND, nodes], self._event)
                self._step("Your device leaves; the counts of all are public now")
            popular = self._most_popular(run)
            with self._lock:
                self._rounds += 1
                self._popular = popular
            self._ended("ready")
        except FedrecError as error:
            self._ended("ready", str(error))

    def _event(self, event: dict[str, Any]) -> None:
        if "round" in event:
            self._step(
                "The masks cancel: the server reads the noisy sum over all, and writes it to the ledger of the run"
            )
        self._note()

    def _most_popular(self, run: Path) -> tuple[str, ...]:
        with EdgeClient.open(self.folder / "shared", KeyFile(self.folder / "shared" / "events.key")) as everyone:
            everyone.install(run)
            return tuple(each.item for each in everyone.recommend(POPULAR))

    def _step(self, text: str) -> None:
        with self._lock:
            self._close_step()
            self._steps.append((text, time.monotonic(), None))
            self._changes += 1

    def _close_step(self) -> None:
        if self._steps and self._steps[-1][2] is None:
            text, begin, _ = self._steps[-1]
            self._steps[-1] = (text, begin, time.monotonic())

    def _ended(self, phase: str, fault: str = "") -> None:
        with self._lock:
            self._close_step()
            self._phase, self._fault = phase, fault
            self._changes += 1

    def _note(self, *, model: bool = False) -> None:
        with self._lock:
            self._model = self._model or model
            self._changes += 1
