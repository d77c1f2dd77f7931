"""The first and the last record of a run, with all facts that hold for the whole run.

`begin` fixes the promise: its parties, population, terms, epsilon, and known limits. It contains the terms of every
planned query, so that no charge can silently use others. `end` fixes the results.
"""

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedrec import __version__
from fedrec.audit.entries.records import (
    FORMAT,
    BeginRecord,
    Catalogue,
    Code,
    EndRecord,
    Named,
    Pair,
    Party,
    Population,
    PopulationBudget,
    Terms,
)
from fedrec.audit.entries.start import Start
from fedrec.audit.log.keys import PublicKey
from fedrec.audit.statement import trust
from fedrec.audit.statement.statement import SOFTWARE
from fedrec.audit.statement.wording import wording
from fedrec.privacy import accounting
from fedrec.privacy.description import describe
from fedrec.privacy.plan import PrivacyPlan
from fedrec.rounding import rounded_up

PRECISION = (
    "epsilons are rounded up to 6 decimals; every other number in quotes is the shortest decimal that gives the same "
    "64-bit float again"
)


def begin(
    plan: PrivacyPlan,
    key: PublicKey,
    *,
    role: str,
    simulation: bool,
    scenario: tuple[str, str],
    algorithm: str,
    dataset: str,
    catalogue: Catalogue,
    population: str,
    unprotected: Sequence[str],
    tuned_on: str | None,
    notes: Sequence[str] = (),
    foreign: Mapping[str, str] | None = None,
    budget: PopulationBudget | None = None,
    start: Start | None = None,
    device: str = "cpu",
    fixes_files: bool = False,
) -> BeginRecord:
    """Make the first record of a run under `plan`, with all facts that a statement on the run repeats.

    Args:
        plan: all releases of the run, priced ahead.
        key: the key that signs the ledger.
        role: the role of its owner.
        simulation: True if all users' data are in one place.
        scenario: its name and the SHA-256 (hex) of its resolved text.
        algorithm: its name.
        dataset: its name.
        catalogue: the items and how they are known.
        population: how the number of users is known.
        unprotected: known limits of the guarantee.
        tuned_on: the private data that decided on the settings, None for none.
        notes: warnings that must come first in every account of the run.
        foreign: code of other packages by its use ("algorithm mine"): distribution, version, file, SHA-256.
        budget: the reservation in a budget that the run shares with others, None for a run on its own.
        start: the run whose release this one starts from, None for none.
        device: the device of the computation.
        fixes_files: True if a record at the end fixes every file of the run (`fedrec.audit.evidence.files_record`).

    Raises:
        ValueError: for a text that no record can hold.
    """
    about, shares = describe(plan), trust.shares(plan)
    further: dict[str, Any] = {} if shares is None else {"shares": shares}
    further |= {} if start is None else {"start": start}
    return BeginRecord(
        type="begin",
        format=FORMAT,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        scenario=Named(name=scenario[0], sha256=scenario[1]),
        algorithm=algorithm,
        simulation=simulation,
        dataset=dataset,
        population=Population(users=about["users"], known=population),
        catalogue=catalogue,
        budget=budget,
        unit=about["unit"],
        adjacency=about["adjacency"],
        guarantee=about["guarantee"],
        trust=about["trust"],
        trust_assumption=trust.assumption(plan),
        target_epsilon=None if about["target_epsilon"] is None else repr(float(about["target_epsilon"])),
        delta=None if about["delta"] is None else repr(about["delta"]),
        sampling=trust.sampling(plan),
        mechanism=trust.mechanism(plan),
        noise_source=about["noise_source"],
        seeded=plan.seeded,
        rounds=about["rounds_planned"],
        plan=_terms(plan),
        parties=[Party(role=role, key=key.text)],
        accountants=trust.accountants(plan),
        code=Code(fedrec=__version__, commit=_commit(), wording=wording()),
        software={"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}}
        | dict(foreign or {}),
        device=device,
        unprotected=list(unprotected),
        notes=list(notes),
        tuned_on=tuned_on,
        precision=PRECISION,
        fixes_files=fixes_files,
        **further,
    )


def curve(plan: PrivacyPlan) -> list[Pair]:
    """Compute pairs of epsilon and delta that bound every attack on the charged releases, for the `end` record.

    Empty with full participation, since the noise alone then gives the exact curve, and without privacy.
    """
    events, epsilon = plan.events(plan.charged), plan.epsilon()["pld"]
    if not plan.private or not events or plan.config.sampling == 1:
        return []
    epsilons = [0.05 * epsilon * step for step in range(41)]
    deltas = accounting.deltas_pld(events, epsilons)
    return [
        Pair(epsilon=rounded_up(at), delta=f"{delta * (1 + 1e-5):.5e}")
        for at, delta in zip(epsilons, deltas, strict=True)
    ]


def end(
    *,
    rounds: int,
    exhausted: str | None,
    state: str,
    files: Mapping[str, bytes],
    private: Mapping[str, str],
    besides: Mapping[str, str],
    unprotected: Sequence[str],
    curve: Sequence[Pair] = (),
) -> EndRecord:
    """Make the `end` record.

    Args:
        rounds: number of finished rounds.
        exhausted: the message of an exhausted budget; None where it sufficed.
        state: digest of the shared state after the last round.
        files: content of each released file, by its path in `release/`.
        private: salted digests of private files, by their path in `private/`.
        besides: all other released values, numbers as text.
        unprotected: known limits of the guarantee.
        curve: see `curve`.
    """
    return EndRecord(
        type="end",
        rounds=rounds,
        exhausted=exhausted,
        state=state,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        private_files=dict(private),
        released_besides=dict(besides),
        unprotected=list(unprotected),
        curve=list(curve) or None,
    )


def _terms(plan: PrivacyPlan) -> list[Terms]:
    """Return the terms of every round; consecutive rounds with the same terms are one entry, [first, last]."""
    found: list[Terms] = []
    for number in range(len(plan.rounds)):
        queries = plan.terms(number)
        first = number
        if found and found[-1].queries == queries:
            first = found.pop().rounds[0]
        found.append(Terms(rounds=[first, number], queries=queries))
    return found


def _commit() -> str | None:
    """Return the commit of this code, with `-modified` if files differ from it; None outside a repository."""
    here = Path(__file__)
    package = str(here.parents[2])

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", package, *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", str(here))
        return git("rev-parse", "HEAD") + ("-modified" if git("status", "--porcelain", "-uno", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
