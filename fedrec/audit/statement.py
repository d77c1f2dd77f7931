"""The privacy statement: what a run promises, to whom, under which assumptions, and what it does not promise.

One account for a program (`statement`, JSON) and the same for a person who is no expert (`as_text`, Markdown). It is
drawn from the plan's description and the ledger together, and the two must agree. Numbers that matter are strings,
epsilons rounded UP to four decimals.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fedrec.audit.statement_budget import other_releases, participation, shared_budget
from fedrec.errors import VerificationError

VERSION = 1

ADVERSARIES = {
    "model_recipients": "anyone who gets the released model, or every one of them, or another user",
    "knows_the_cohort": "someone who also sees who takes part in which round (the sampling is then no help)",
    "server": "the server itself",
    "server_with_colluders": "the server together with other users",
}
_FLOAT_LIMITS = (
    "users are summed in 32-bit floating point, so that one user can move a long sum by a little more than the clip; "
    "noise is drawn and added in 64-bit floating point, not by an exact sampler: it is a sum of four normals and the "
    "release is rounded to a grid of a thousandth of the noise, which hides low-order bits, but no proof covers the "
    "rounding, nor the time that the computation takes"
)


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
    privacy: Mapping[str, Any], ledger: Record, dataset: Mapping[str, Any], *, simulation: bool = True
) -> dict[str, Any]:
    """The statement on a run, JSON-able.

    privacy: `PrivacyPlan.describe()` at the end of the run. dataset: its "name", "users", "items", "interactions"
    (repeated for a simulation only: it is an exact count), "catalogue": "given", or where its items were taken from,
    "k-core rounds" where a k-core was taken, and "note", what else must be said of the run. simulation: whether all
    users' data lay in one place.
    Raises: VerificationError when the ledger does not hold the charges that `privacy` tells of.
    """
    charges = [entry["payload"] for entry in ledger.entries if entry["payload"].get("type") == "charge"]
    _agree(privacy, charges)
    releases = _releases(charges)
    private = privacy["guarantee"] != "none"
    given = dataset.get("catalogue", "given") == "given"
    nothing = "nothing of any user was released" + ("" if given else ", but for the list of items")
    counted = ("name", "users", "items", "interactions") if simulation else ("name", "users", "items")
    return {
        "version": VERSION,
        "promise": _promise(privacy, bool(releases), simulation, given),
        "guarantee": privacy["guarantee"] if private or releases else nothing,
        "unit": privacy["unit"],
        "adjacency": privacy["adjacency"],
        "trust": privacy["trust"],
        "delta": None if privacy["delta"] is None else repr(privacy["delta"]),
        "target_epsilon": None if privacy["target_epsilon"] is None else repr(privacy["target_epsilon"]),
        "epsilon": _epsilon(privacy["adversaries"]["model_recipients"]),
        "accountants": {
            name: _epsilon(privacy["adversaries"]["model_recipients"] if value is None else value)
            for name, value in privacy["accountants"].items()
        },
        "adversaries": [
            {"adversary": name, "who": who, "epsilon": _epsilon(privacy["adversaries"][name])}
            for name, who in ADVERSARIES.items()
        ],
        "assumptions": _assumptions(privacy, simulation) if private and releases else [],
        "not_protected": _not_protected(privacy, dataset, simulation),
        "releases": releases,
        "rounds": len(charges),
        "participation": privacy["participation"],
        "population_budget": privacy.get("population_budget"),
        "noise_source": privacy["noise_source"],
        "dataset": {key: dataset[key] for key in counted if key in dataset},
        "tuned_on": dataset.get("tuned_on") or None,
        "ledger": {"entries": len(ledger.entries), "head": ledger.head},
    }


def as_text(stated: Mapping[str, Any]) -> str:
    """The statement for a reader who is no expert, in Markdown."""
    data = stated["dataset"]
    about = ", ".join(f"{data[key]:,} {key}" for key in ("users", "items", "interactions") if key in data)
    lines = ["# Privacy statement", "", " ".join(stated["promise"]), ""]
    lines += [f"Data: {data.get('name', 'unnamed')} ({about})." if about else "", ""]
    lines += ["## How much can be learned about one person", "", "| by whom | epsilon |", "|---|---|"]
    lines += [f"| {row['who']} | {row['epsilon'] or 'no bound'} |" for row in stated["adversaries"]]
    lines += ["", f"A smaller epsilon is a stronger promise; 0 means nothing. Delta: {stated['delta'] or 'none'}.", ""]
    values = ", ".join(f"{name.upper()} {value or 'no bound'}" for name, value in stated["accountants"].items())
    lines += [f"The same releases were priced by two independent accountants: {values}. Both are upper bounds.", ""]
    lines += [*shared_budget(stated["population_budget"]), *participation(stated["participation"])]
    if stated["assumptions"]:
        lines += ["## It holds as long as", ""]
        lines += [f"- **{row['who']}** {row['must']};" for row in stated["assumptions"]] + [""]
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
    lines += [f"Noise: {stated['noise_source']}. Ledger: {stated['ledger']['entries']} entries, head"]
    lines += [f"`{stated['ledger']['head']}`.", ""]
    return "\n".join(lines)


def _agree(privacy: Mapping[str, Any], charges: Sequence[Mapping[str, Any]]) -> None:
    if len(charges) != privacy["rounds"]:
        raise VerificationError(
            f"the ledger holds {len(charges)} charges, the plan counts {privacy['rounds']}; use the ledger of this run"
        )
    spent = privacy["accountants"]["pld"]
    if charges and spent is not None and float(charges[-1]["epsilon"]["pld"]) != float(_epsilon(spent, 6) or "nan"):
        raise VerificationError(
            f"the ledger ends at epsilon {charges[-1]['epsilon']['pld']} and the plan at {_epsilon(spent, 6)}; use the "
            f"ledger of this run"
        )


def _releases(charges: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each different query and noise, with the number of rounds that it was charged in."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for charge in charges:
        for query in charge["queries"]:
            key = (query["name"], tuple(query["shape"]), query["clip_norm"], query["noise_multiplier"])
            row = found.setdefault(key, {**query, "sampling": charge["sampling"], "rounds": 0})
            row["rounds"] += 1
    return list(found.values())


def _promise(privacy: Mapping[str, Any], released: bool, simulation: bool, given: bool) -> list[str]:
    if not released and not given:
        return [
            "Nothing was asked of any user, but the list of items was taken from what users did, without noise.",
            "Beyond that list, what was released tells nothing about anybody's history (epsilon 0).",
        ]
    if not released:
        return [
            "Nothing was learned from any user: what was released comes from public information alone.",
            "So it tells nothing about anybody's history, whatever else is known (epsilon 0).",
        ]
    if privacy["guarantee"] == "none":
        return [
            "There is NO privacy guarantee: what was learned from users was released without bound or noise.",
            "Whoever gets the model may be able to tell what a person did.",
        ]
    epsilon = float(_epsilon(privacy["epsilon"]) or "inf")
    chance = (
        f"{math.ceil(math.exp(epsilon) * 100) / 100:.2f}" if epsilon < 10 else f"e^{epsilon:.3g} (a very weak promise)"
    )
    where = "would stay on the person's device" if simulation else "stay on the person's device"
    secret = not privacy["noise_source"].startswith("seeded")
    opening = (
        "Whatever" if secret else "If the noise were secret (here it follows from a seed, for simulation), whatever"
    )
    return [
        f"{opening} anyone concludes about a person from the released model, they would have concluded nearly as "
        f"likely had that person never taken part: the chance of any conclusion changes by at most a factor of "
        f"{chance}, leaving aside a probability of {privacy['delta']:g} (user-level epsilon "
        f"{_epsilon(privacy['epsilon'])}; the list of items and the number of users count as known).",
        f"A person's own recommendations use that person's history and taste vector, which {where}.",
    ]


def _assumptions(privacy: Mapping[str, Any], simulation: bool) -> list[dict[str, str]]:
    found = [
        {
            "who": "the server",
            "must": "adds the noise as stated, shows nobody the sums before it, and forgets them: it is trusted",
        },
        {"who": "every client", "must": "clips its user's whole contribution as the plan says"},
        {
            "who": "the operator",
            "must": "publishes nothing else made from the users' data: no cohort, no losses, no un-noised metrics",
        },
        {
            "who": "the operator",
            "must": "takes the number of users and the catalogue from public knowledge, not from logs",
        },
        {"who": "one person", "must": "is one user: several accounts of a person share no bound"},
    ]
    if privacy["sampling"] < 1:
        found.append({"who": "the server", "must": "keeps secret who takes part in which round"})
    if simulation:
        found[1]["who"] = "the simulation"
        found[3]["must"] = "may count the number of users, here taken from the log, and the catalogue as known to all"
    return found


def _not_protected(privacy: Mapping[str, Any], dataset: Mapping[str, Any], simulation: bool) -> list[str]:
    found = [dataset["note"]] if "note" in dataset else []
    if simulation:
        found.append("this was a simulation: all users' data lay in one place, where whoever ran it could read them")
        found.append(
            "the metrics of a simulation are the true ones, without noise, wherever they stand (summary, history, "
            "plots, checkpoint), and so are those of the baselines, whatever epsilon a baseline had"
        )
        found.append(
            "what is told of the data (interactions, what cleaning dropped, how many users could be ranked) and of "
            "time and memory used is exact"
        )
    if "k-core rounds" in dataset:
        found.append(
            "users and items with few events were dropped from the log (k-core), so one person's events decide which "
            "events of others are left: epsilon holds for the data after that, not for the log"
        )
    if dataset.get("catalogue", "given") != "given":
        found.append(
            f"the catalogue is {dataset['catalogue']}: that an item occurs in it tells that somebody used the item"
        )
    if privacy["guarantee"] != "none":
        if privacy["noise_source"].startswith("seeded"):
            found.append("the noise of this run follows from its seed: whoever knows the seed can take the noise off")
        else:
            found.append("the operating system's random generator and the memory of the server are trusted")
        found.append(_FLOAT_LIMITS)
    if dataset.get("tuned_on"):
        found.append(
            f"these settings were tuned on the private data of {dataset['tuned_on']}: epsilon does not cover what the "
            "choice of settings tells"
        )
    found.append("choices that were made by looking at private data (settings, algorithms, when to stop) cost budget")
    found.append(other_releases(privacy.get("population_budget")))
    found.append("what can be learned about a person from others, from public facts, or from lists that they show")
    return found


def _epsilon(value: float | None, digits: int = 4) -> str | None:
    """Rounded up, as text; None stands for no bound."""
    return None if value is None else f"{math.ceil(value * 10**digits) / 10**digits:.{digits}f}"
