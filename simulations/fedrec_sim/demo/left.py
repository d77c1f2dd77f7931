"""What has left a device, as the lines of its ledger report it."""

from dataclasses import dataclass
from pathlib import Path

from fedrec_client.consent.chain import Chain
from fedrec_client.consent.device_ledger import FILE, counter_of
from fedrec_client.consent.entries import Accepted, Charge, Outcome, entry_of, unpacked


@dataclass(frozen=True)
class Left:
    """An answer that was paid for.

    Attributes:
        run: its id.
        algorithm: of the run.
        trust: its trust model.
        users: in the run.
        round: from 1.
        time: of the charge, Unix seconds.
        epsilon: of the run so far; None for public data.
        gave: whether the policy let the person's data in; otherwise it is a zero.
        outcome: released, empty, zero or void (`entries.Outcome`); None while the answer is made.
        why: cause of empty or zero.
        since: of a trust period, Unix seconds of its begin; None outside of one.
        until: of its end.
    """

    run: str
    algorithm: str
    trust: str
    users: int
    round: int
    time: float
    epsilon: float | None
    gave: bool
    outcome: str | None
    why: str
    since: int | None
    until: int | None


def answers(folder: Path) -> tuple[Left, ...]:
    """Return all answers of a device, newest first.

    Args:
        folder: of the device; one without a ledger gave none.

    Raises:
        VerificationError: for a damaged ledger.
    """
    path = folder / FILE
    if not path.exists():
        return ()
    chain = Chain(path, counter_of(path))
    runs: dict[str, Accepted] = {}
    found: dict[tuple[str, int, str], tuple[Charge, float]] = {}
    ends: dict[tuple[str, int, str], Outcome] = {}
    with chain.locked(write=False):
        lines = chain.taken()
    for line in lines:
        entry = entry_of(line)
        if isinstance(entry, Accepted):
            runs[entry.run] = entry
        elif isinstance(entry, Charge):
            found[entry.run, entry.round, entry.question] = (entry, line.time)
        elif isinstance(entry, Outcome):
            ends[entry.run, entry.round, entry.question] = entry
    made = []
    for key, (charge, time) in found.items():
        run = runs[charge.run]
        end = ends.get(key)
        gave = bool(unpacked(charge.gave, charge.rows).any())
        made.append(
            Left(
                run=charge.run,
                algorithm=run.algorithm,
                trust=run.trust,
                users=run.users,
                round=charge.round + 1,
                time=time,
                epsilon=charge.epsilon,
                gave=gave,
                outcome=None if end is None else end.outcome,
                why="" if end is None else end.why,
                since=None if end is None else end.since,
                until=None if end is None else end.until,
            )
        )
    return tuple(reversed(made))
