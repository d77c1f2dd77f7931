"""One run of a combination: events, target, population and noise, from its checked ledger."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedrec.audit.accountant import recompute
from fedrec.audit.accountant.recompute import TooCostly
from fedrec.audit.entries.account import account
from fedrec.audit.entries.events import events_of
from fedrec.audit.entries.participation import participation
from fedrec.audit.entries.records import BeginRecord, PopulationBudget
from fedrec.audit.evidence.received_run import Evidence, received
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.verify.verification import integrity
from fedrec.errors import InputError, VerificationError
from fedrec.privacy import accounting
from fedrec.privacy.accounting import Event

NOTHING_ASKED = 1e-5
"""Delta of a run that promises nothing and asked nothing of users: its epsilon is 0 at any."""


@dataclass(frozen=True)
class Run:
    """One run as its ledger records it.

    Attributes:
        path: path of the ledger.
        population: the people whose data were used.
        target: planned epsilon, at `delta`; None for no guarantee.
        seed: of noise that repeats; None for secret noise.
        head: the root (hex) over all records.
        expected_rounds: rounds in which one person is expected to take part.
        most_rounds: most rounds in which one person takes part.
        run: its id.
        roots: the root (hex) after 0, 1, ... records.
    """

    path: Path
    population: str
    events: tuple[Event, ...]
    target: float | None
    delta: float | None
    seed: int | None
    head: str
    expected_rounds: float
    most_rounds: int
    budget: PopulationBudget | None
    run: str
    roots: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, keys: Sequence[PublicKey] | None) -> "Run":
        """Read the run in a folder, an export, or the folder of a ledger file.

        Args:
            path: named by the user.
            keys: one of them must have begun the ledger. None: take the key next to it, which shows damage alone.

        Raises:
            InputError: when there is no run at `path`.
            VerificationError: when its ledger does not verify.
        """
        evidence = received(path.parent if path.name == "ledger.jsonl" else path)
        chain, _, faults = integrity(evidence, _key(evidence, keys))
        if faults:
            raise VerificationError(f"{path}: not added up: {faults[0]}")
        ledger = evidence.place
        try:
            known = account([record.payload for record in chain.records])
        except VerificationError as error:
            raise VerificationError(f"{ledger}: {error}; ask for it again") from None
        begin, asked = known.begin, [charge for charge in known.charges if charge.queries]
        if any(charge.delta != begin.delta for charge in asked):
            raise VerificationError(f"{ledger}: a charge has another delta than record 0")
        if begin.trust != "central":
            raise VerificationError(
                f"{ledger}: its users added Skellam noise (trust '{begin.trust}'); only runs whose server added "
                "Gaussian noise are combined"
            )
        events = tuple(events_of(known.charges))
        check_cost(path, events, float(begin.delta or NOTHING_ASKED))
        stated = begin.delta if asked else begin.delta or repr(NOTHING_ASKED)
        delta = None if stated is None else float(stated)
        target: float | None = None
        if delta is not None:
            target = accounting.epsilon_pld(events, delta) if events else 0.0
            if events and begin.target_epsilon is not None:
                target = max(target, float(begin.target_epsilon))
        expected, most = participation(begin, known.charges)
        return cls(
            path=path,
            population=begin.dataset if begin.budget is None else begin.budget.who,
            events=events,
            target=target,
            delta=delta,
            seed=_seed(evidence, begin) if begin.private and begin.seeded else None,
            head=chain.head,
            expected_rounds=expected,
            most_rounds=most,
            budget=begin.budget,
            run=chain.records[0].run,
            roots=tuple(root.hex() for root in chain.roots),
        )


def _key(evidence: Evidence, keys: Sequence[PublicKey] | None) -> PublicKey:
    """Return the key that must have begun the ledger: the one of `keys` that record 0 names, else the first.

    Naming proves nothing; the signatures are checked under it.
    """
    if keys is None:
        return evidence.own_key("--trust-run-key", "--key PUB")
    first = evidence.ledger.partition(b"\n")[0]
    return next((key for key in keys if f'"keyid":"{key.id}"'.encode() in first), keys[0])


def check_cost(path: Path, events: Sequence[Event], delta: float) -> None:
    """Check that composing these events takes bounded time.

    Raises:
        VerificationError: with `path`, when it would take too long.
    """
    try:
        recompute.require_bounded([(event.sampling, event.noise_multiplier, event.count) for event in events], delta)
    except TooCostly as error:
        raise VerificationError(f"{path}: cannot be added up within bounded time: {error}") from None


def _seed(evidence: Evidence, begin: BeginRecord) -> int:
    """Return the seed of the noise, from the scenario whose digest the ledger contains."""
    where = f"{evidence.place}: scenario.toml"
    content = evidence.files.get("scenario.toml")
    if content is None:
        raise InputError(f"{where}: is missing, and the noise follows from its seed; give the run's whole folder")
    if hashlib.sha256(content).hexdigest() != begin.scenario.sha256:
        raise VerificationError(f"{where}: is not the scenario that the ledger began with; ask for the run again")
    try:
        seed = tomllib.loads(content.decode()).get("seed")
    except (ValueError, RecursionError):
        seed = None
    if type(seed) is not int:
        raise VerificationError(f"{where}: names no seed, and the ledger says that the noise follows from one")
    return seed
