"""The privacy statement: what a run promises, to whom, under which assumptions, and what it does not promise.

One account for a program (`statement`, JSON; its schema is `statement.schema.json`) and the same for a person who is
no expert (`as_text`, Markdown). It is drawn from the plan's description and the ledger together, and the two must
agree. Numbers that matter are strings, epsilons rounded UP to four decimals.
"""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

from fedrec.audit import checklists
from fedrec.audit.assumptions import assumptions, not_protected
from fedrec.audit.promise import precisely, promise, rounded_up
from fedrec.audit.released import budget, releases, spent, stopped_early
from fedrec.audit.statement_budget import participation, shared_budget
from fedrec.audit.tradeoff import Tradeoff
from fedrec.errors import VerificationError
from fedrec.privacy import accounting

SCHEMA = "urn:fedrec:privacy-statement:2"
VERSION = 2
SOFTWARE = ("fedrec", "torch", "numpy", "opacus", "dp-accounting")
ADVERSARIES = {
    "model_recipients": "anyone who gets the released model, or every one of them, or another user",
    "knows_the_cohort": "someone who also sees who takes part in which round (the sampling is then no help)",
    "server": "the server itself",
    "server_with_colluders": "the server together with other users",
    "secure_aggregation_fails": "anyone who reads what a device sends, where secure aggregation fails or is not used",
}
VERIFY = "fedrec audit verify RUN --key PUBLIC_KEY"
GAUSSIAN = "Poisson-sampled Gaussian, add or remove one user"
"""The mechanism whose trade-off curve is known here."""


class Record(Protocol):
    """What is needed of a ledger."""

    @property
    def entries(self) -> Sequence[Mapping[str, Any]]:
        """All entries, oldest first, each with its "payload"."""
        ...

    @property
    def head(self) -> str:
        """The hash that fixes all entries."""
        ...


def statement(
    privacy: Mapping[str, Any],
    ledger: Record,
    dataset: Mapping[str, Any],
    *,
    simulation: bool = True,
    scenario: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The statement on a run, JSON-able.

    privacy: `PrivacyPlan.describe()` at the end of the run. dataset: its "name", "users", "items", "interactions"
    (repeated for a simulation only: it is an exact count), "catalogue": "given", or where its items were taken from,
    "k-core rounds" where a k-core was taken, and "note", what else must be said of the run. simulation: whether all
    users' data lay in one place. scenario: its "name", "algorithm" and "fingerprint".
    Raises: VerificationError when the ledger does not hold the charges that `privacy` tells of.
    """
    payloads = [entry["payload"] for entry in ledger.entries]
    charges = [payload for payload in payloads if payload.get("type") == "charge"]
    _agree(privacy, charges)
    released = releases(charges)
    private = privacy["guarantee"] != "none"
    given = dataset.get("catalogue", "given") == "given"
    nothing = "nothing of any user was released" + ("" if given else ", but for the list of items")
    counted = ("name", "users", "items", "interactions") if simulation else ("name", "users", "items")
    best = tradeoff(charges, privacy)
    facts = {
        "guarantee": privacy["guarantee"] if private or released else nothing,
        "unit": privacy["unit"],
        "adjacency": privacy["adjacency"],
        "trust": privacy["trust"],
        "simulation": simulation,
        "delta": None if privacy["delta"] is None else repr(privacy["delta"]),
        "target_epsilon": None if privacy["target_epsilon"] is None else repr(privacy["target_epsilon"]),
        "epsilon": rounded_up(privacy["adversaries"]["model_recipients"]),
        "accountants": {
            name: rounded_up(privacy["adversaries"]["model_recipients"] if value is None else value)
            for name, value in privacy["accountants"].items()
        },
        "best_guess": rounded_up(best.best_guess()),
        "curve": _curve(best),
        "adversaries": _adversaries(privacy),
        "assumptions": assumptions(privacy, simulation) if private and released else [],
        "not_protected": not_protected(privacy, dataset, simulation),
        "releases": released,
        "budget": budget(released),
        "spent": spent(charges),
        "rounds": len(charges),
        "rounds_planned": privacy["rounds_planned"],
        "participation": privacy["participation"],
        "population_budget": privacy.get("population_budget"),
        "stopped": stopped_early(payloads),
        "noise_source": privacy["noise_source"],
        "dataset": {key: dataset[key] for key in counted if key in dataset}
        | {"catalogue": dataset.get("catalogue", "given")},
        "tuned_on": dataset.get("tuned_on") or None,
        "scenario": None if scenario is None else dict(scenario),
        "software": {"python": platform.python_version(), **{name: version(name) for name in SOFTWARE}},
        "ledger": {"entries": len(ledger.entries), "head": ledger.head, "signed": _signed(ledger)},
        "verification": {"command": VERIFY, "needs": "the run's folder, and the public key from somebody you trust"},
    }
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "promise": promise(facts),
        "precisely": precisely(facts),
        **facts,
        "checklists": {
            "how_to_dp_fy_ml": checklists.how_to_dp_fy_ml(facts),
            "nist_sp_800_226": checklists.nist_sp_800_226(facts),
        },
    }


def _signed(ledger: Record) -> bool:
    """Whether a ledger says whose key signs it."""
    return any(entry["payload"].get("type") == "begin" and entry["payload"].get("parties") for entry in ledger.entries)


def tradeoff(charges: Sequence[Mapping[str, Any]], privacy: Mapping[str, Any]) -> Tradeoff:
    """What the best attacker can do against all `charges`: exactly where every user always took part."""
    events = [
        accounting.Event(float(event["sampling"]), float(event["noise_multiplier"]), int(event["count"]))
        for charge in charges
        for event in charge.get("events", ())
    ]
    epsilon = privacy["adversaries"]["model_recipients"]
    if epsilon is None:
        return Tradeoff()
    if any(event.get("mechanism") != GAUSSIAN for charge in charges for event in charge.get("events", ())):
        return Tradeoff(bounds=((epsilon, privacy["delta"]),))
    if all(event.sampling == 1 for event in events):
        return Tradeoff(mu=math.sqrt(math.fsum(event.count / event.noise_multiplier**2 for event in events)))
    epsilons = [0.05 * epsilon * step for step in range(41)]
    return Tradeoff(bounds=tuple(zip(epsilons, accounting.deltas_pld(events, epsilons), strict=True)))


def as_text(stated: Mapping[str, Any]) -> str:
    """The statement for a reader who is no expert, in Markdown."""
    data = stated["dataset"]
    about = ", ".join(f"{data[key]:,} {key}" for key in ("users", "items", "interactions") if key in data)
    lines = ["# Privacy statement", "", " ".join(stated["promise"]), "", f"Precisely: {stated['precisely']}", ""]
    lines += [f"Data: {data.get('name', 'unnamed')} ({about})." if about else "", ""]
    lines += ["## How much can be learned about one person", "", "| by whom | epsilon |", "|---|---|"]
    lines += [f"| {row['who']} | {row['epsilon'] or 'no bound'} |" for row in stated["adversaries"]]
    lines += ["", f"A smaller epsilon is a stronger promise; 0 means nothing. Delta: {stated['delta'] or 'none'}.", ""]
    values = ", ".join(f"{name.upper()} {value or 'no bound'}" for name, value in stated["accountants"].items())
    lines += [f"The same releases were priced by two independent accountants: {values}. Both are upper bounds.", ""]
    lines += [*shared_budget(stated["population_budget"]), *participation(stated["participation"])]
    if stated["stopped"]:
        left = len(stated["stopped"]["unrun"])
        lines += [f"The run stopped early on its private metrics; {left} rounds that it left out are charged, too.", ""]
    if stated["assumptions"]:
        lines += ["## It holds as long as", ""]
        lines += ["| who | must keep | enforced |", "|---|---|---|"]
        lines += [
            f"| {row['who']} | {row['must']} | {row['enforced']}: {row['how']} |" for row in stated["assumptions"]
        ]
        lines += [""]
    lines += ["## What is not protected", "", *(f"- {what};" for what in stated["not_protected"]), ""]
    if stated["releases"]:
        lines += [
            "## What was released",
            "",
            "| sum | numbers | rounds | clip | noise, in clips |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['name']} | {math.prod(row['shape']):,} | {row['rounds']} | {row['clip_norm'] or 'none'} "
            f"| {float(row['noise_multiplier']):.4g} |"
            for row in stated["releases"]
        ]
        lines += [""]
    lines += ["## Checklists", "", "| item | answered | this run |", "|---|---|---|"]
    lines += [
        f"| {row['item']} | {row['status']} | {row['answer']} |"
        for rows in stated["checklists"].values()
        for row in rows
    ]
    lines += ["", f"To check the record: `{stated['verification']['command']}`.", ""]
    lines += [f"Noise: {stated['noise_source']}. Ledger: {stated['ledger']['entries']} entries, head"]
    lines += [f"`{stated['ledger']['head']}`.", ""]
    return "\n".join(lines)


def _agree(privacy: Mapping[str, Any], charges: Sequence[Mapping[str, Any]]) -> None:
    if len(charges) != privacy["rounds"]:
        raise VerificationError(
            f"the ledger holds {len(charges)} charges, the plan counts {privacy['rounds']}; use the ledger of this run"
        )
    spent = privacy["accountants"]["pld"]
    if charges and spent is not None and float(charges[-1]["epsilon"]["pld"]) != float(rounded_up(spent, 6) or "nan"):
        raise VerificationError(
            f"the ledger ends at epsilon {charges[-1]['epsilon']['pld']} and the plan at {rounded_up(spent, 6)}; use "
            f"the ledger of this run"
        )


def _adversaries(privacy: Mapping[str, Any]) -> list[dict[str, Any]]:
    against = dict(privacy["adversaries"])
    central = privacy["trust"] == "central"
    against.setdefault("secure_aggregation_fails", against["server"] if central else None)
    sampled = privacy["sampling"] < 1
    private = privacy["guarantee"] != "none"
    why = {
        "model_recipients": "clip and noise",
        "knows_the_cohort": "clip and noise alone, without the sampling" if sampled else "everybody always takes part",
        "server": "it sees the sums before it adds the noise",
        "server_with_colluders": "as the server",
        "secure_aggregation_fails": "there is none in this run, and a device's message carries no noise of its own",
    }
    return [
        {
            "adversary": name,
            "who": who,
            "epsilon": rounded_up(against[name]),
            "why": "nothing depends on users"
            if against[name] == 0
            else why[name]
            if private and (central or against[name] is None or name in ("model_recipients", "knows_the_cohort"))
            else "trust model " + privacy["trust"]
            if private
            else "there is neither clip nor noise",
        }
        for name, who in ADVERSARIES.items()
    ]


def _curve(best: Tradeoff) -> dict[str, Any] | None:
    if best.mu is None and not best.bounds:
        return None
    return {
        "mu": rounded_up(best.mu, 6),
        "bounds": [
            {"epsilon": rounded_up(epsilon), "delta": f"{delta * (1 + 1e-5):.5e}"} for epsilon, delta in best.bounds
        ],
    }
