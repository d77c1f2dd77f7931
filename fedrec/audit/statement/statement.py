"""The privacy statement: what a run promises, to whom, under which assumptions, and what it does not promise.

One account for a program (`statement`, JSON; its schema is `statement.schema.json`) and the same for a person who is
no expert (`fedrec.audit.statement.markdown`). Everything in it follows from the ledger's records and this code, so that
a reader can make it anew and compare. Numbers that matter are strings, epsilons rounded UP to four decimals.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from pydantic import ValidationError

from fedrec.audit.accountant.tradeoff import Tradeoff
from fedrec.audit.entries.account import Account, account
from fedrec.audit.entries.participation import participation as rounds_of_one
from fedrec.audit.entries.participation import separation
from fedrec.audit.entries.records import StoppedRecord
from fedrec.audit.log.envelope import Entry
from fedrec.audit.statement import checklists
from fedrec.audit.statement.adversaries import adversaries, total_mu
from fedrec.audit.statement.assumptions import assumptions, not_protected, simulated
from fedrec.audit.statement.promise import precisely, promise, rounded_up, rounded_up_text
from fedrec.audit.statement.releases import budget, releases, spent
from fedrec.audit.statement.schema import (
    Accountants,
    Bound,
    Checklists,
    Curve,
    Data,
    LedgerHead,
    Participation,
    PrivacyStatement,
    Scenario,
    Stop,
    Verification,
)
from fedrec.errors import VerificationError

SCHEMA: Final = "urn:fedrec:privacy-statement:3"
VERSION: Final = 3
SOFTWARE = ("fedrec", "torch", "numpy", "opacus", "dp-accounting")
VERIFY = "fedrec audit verify RUN --key PUBLIC_KEY"
"""How to check a record; never taken from a file."""
GAUSSIAN = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism whose trade-off curve is known here."""
NOT_RECORDED = "not recorded"


class Entries(Protocol):
    """What is needed of a ledger."""

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries, oldest first."""
        ...

    @property
    def head(self) -> str:
        """The hash that fixes all entries."""
        ...


def of_ledger(ledger: Entries) -> PrivacyStatement:
    """Return the statement on the run of a ledger.

    Raises:
        VerificationError: as `account`.
    """
    heads = [*(entry.previous for entry in ledger.entries), ledger.head]
    return statement(account([entry.payload for entry in ledger.entries]), heads)


def statement(known: Account, heads: Sequence[str]) -> PrivacyStatement:
    """The statement on a run: a function of its ledger alone.

    Records after the last charge, stop or end (attacks, notes, digests of files) change nothing in it.

    Args:
        known: what the ledger's records say.
        heads: the ledger's root (hex) after 0, 1, ... records, one more than there are records.
    """
    begin, charges = known.begin, known.charges
    released = releases(charges)
    catalogue = begin.catalogue
    given = catalogue is not None and catalogue.known == "given"
    nothing = "nothing of any user was released" + ("" if given else ", but for the list of items")
    pld, rdp = (charges[-1].epsilon.pld, charges[-1].epsilon.rdp) if charges else ("0", "0")
    epsilon = pld if begin.shares is None else rdp
    curve = _curve(known, epsilon)
    best = Tradeoff() if curve is None else curve.tradeoff()
    try:
        facts = PrivacyStatement(
            schema=SCHEMA,
            version=VERSION,
            promise=["", ""],
            precisely="",
            guarantee=begin.guarantee if begin.private or released else nothing,
            unit=begin.unit,
            adjacency=begin.adjacency,
            trust=begin.trust,
            simulation=simulated(begin),
            delta=begin.delta,
            target_epsilon=begin.target_epsilon,
            epsilon=rounded_up_text(epsilon),
            accountants=Accountants(pld=rounded_up_text(pld), rdp=rounded_up_text(rdp)),
            best_guess=rounded_up(best.best_guess()) or "",
            curve=curve,
            adversaries=adversaries(known, epsilon),
            assumptions=assumptions(begin) if begin.private and released else [],
            not_protected=not_protected(begin),
            unprotected=_unprotected(known),
            releases=released,
            budget=budget(charges),
            spent=spent(charges),
            rounds=len(charges),
            rounds_planned=begin.rounds,
            participation=participation(known),
            population_budget=begin.budget,
            stopped=_stop(known.stopped),
            noise_source=begin.noise_source,
            dataset=Data(
                name=begin.dataset,
                users=begin.population.users,
                items=None if catalogue is None else catalogue.items,
                catalogue=NOT_RECORDED if catalogue is None else catalogue.known,
                k_core=None if catalogue is None else catalogue.k_core,
            ),
            tuned_on=begin.tuned_on,
            scenario=Scenario(
                name=begin.scenario.name,
                algorithm=begin.algorithm or NOT_RECORDED,
                fingerprint=begin.scenario.sha256,
            ),
            software=dict(sorted((begin.software or _software(known)).items())),
            ledger=LedgerHead(entries=known.entries, head=heads[known.entries], signed=True),
            not_recorded=not_recorded(known),
            verification=Verification(
                command=VERIFY, needs="the run's folder, and the public key from somebody you trust"
            ),
            checklists=Checklists(how_to_dp_fy_ml=[], nist_sp_800_226=[]),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise VerificationError(f"{'.'.join(map(str, first['loc']))} of the statement: {first['msg']}") from None
    answers = Checklists(
        how_to_dp_fy_ml=checklists.how_to_dp_fy_ml(facts), nist_sp_800_226=checklists.nist_sp_800_226(facts)
    )
    return facts.model_copy(update={"promise": promise(facts), "precisely": precisely(facts), "checklists": answers})


def _stop(record: StoppedRecord | None) -> Stop | None:
    return None if record is None else Stop(round=record.round, why=record.why, unrun=record.unrun)


def text_of(stated: PrivacyStatement | Mapping[str, Any]) -> str:
    """Return the one form in which `statement.json` is written.

    Args:
        stated: the statement, or what a file holds in its place.
    """
    whole = stated.model_dump(mode="json", by_alias=True) if isinstance(stated, PrivacyStatement) else stated
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"


def not_recorded(known: Account) -> list[str]:
    """What a statement of today says and the records of an older run do not."""
    found = []
    if known.begin.format == 1:
        found = [
            "the algorithm",
            "the number of items and how they are known",
            "whether the run draws from a budget that it shares with other runs",
            "most versions of software",
        ]
    if (
        _sampling(known) < 1
        and known.charges
        and known.begin.private
        and known.begin.shares is None
        and (known.end is None or not known.end.curve)
    ):
        found.append("the curve of the best attacker (what epsilon and delta alone allow is shown)")
    return found


def participation(known: Account) -> Participation:
    """In how many rounds one person takes part: expected, at most, and what limits it.

    Args:
        known: what the ledger's records say.
    """
    sampling, apart = _sampling(known), separation(known.begin)
    limit = "every user, every round" if sampling == 1 else "none below the number of rounds: each draws anew"
    if apart is not None:
        expected, most = rounds_of_one(known.begin, known.charges)
        return Participation(
            expected_rounds=expected, most_rounds=most, limit=f"one of every {apart} rounds that ask the same"
        )
    asked = sum(bool(charge.queries) for charge in known.charges)
    return Participation(expected_rounds=asked * sampling, most_rounds=asked, limit=limit)


def _sampling(known: Account) -> float:
    return float(known.begin.sampling.probability)


def _software(known: Account) -> dict[str, str]:
    """What format 1 records of it: fedrec and the accountants, as "name version"."""
    named = [text.rpartition(" ") for text in known.begin.accountants.values()]
    return {"fedrec": known.begin.code.fedrec} | {name: version for name, _, version in named}


def _unprotected(known: Account) -> list[str]:
    listed = [*known.begin.unprotected, *(known.end.unprotected if known.end is not None else ())]
    return list(dict.fromkeys(listed))


def _curve(known: Account, epsilon: str | None) -> Curve | None:
    """What the best attacker can do: exact where everybody takes part, else as the last record bounds it."""
    charges, delta = known.charges, known.begin.delta
    if epsilon is None:
        return None
    events = [event for charge in charges for event in charge.events]
    if all(float(event.sampling) == 1 and event.mechanism == GAUSSIAN for event in events):
        return Curve(mu=rounded_up(total_mu(charges), 6), bounds=[])
    if known.end is not None and known.end.curve:
        return Curve(mu=None, bounds=[Bound(epsilon=pair.epsilon, delta=pair.delta) for pair in known.end.curve])
    bounds = [] if delta is None else [Bound(epsilon=rounded_up_text(epsilon) or "0", delta=delta)]
    return Curve(mu=None, bounds=bounds)
