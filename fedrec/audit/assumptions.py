"""What a promise rests on: who must keep which assumption and what enforces it, and what no promise is made about."""

from collections.abc import Mapping
from typing import Any

from fedrec.audit.statement_budget import other_releases

_FLOAT_LIMITS = (
    "users are summed in 32-bit floating point, so that one user can move a long sum by a little more than the clip; "
    "noise is drawn and added in 64-bit floating point, not by an exact sampler: it is a sum of four normals and the "
    "release is rounded to a grid of a thousandth of the noise, which hides low-order bits, but no proof covers the "
    "rounding, nor the time that the computation takes"
)


def seeded(privacy: Mapping[str, Any]) -> bool:
    """Whether the noise follows from a seed."""
    return str(privacy["noise_source"]).startswith("seeded")


def assumptions(privacy: Mapping[str, Any], simulation: bool) -> list[dict[str, str]]:
    """Rows of "who" "must" what, whether that is "enforced" (yes, partly, no), and "how" or why not."""
    found = [
        _row(
            "the server",
            "adds the noise as stated, shows nobody the sums before it, and forgets them: it is trusted",
            "no",
            "its own code does it and nobody else can see whether it did; the ledger records what it claims",
        ),
        _row(
            "the simulation" if simulation else "every client",
            "clips its user's whole contribution as the plan says",
            "yes" if simulation else "no",
            "one plan clips every contribution before the sum, in the same process"
            if simulation
            else "the client's code does it; a client that does not clip exposes its own user, nobody else",
        ),
        _row(
            "the operator",
            "publishes nothing else made from the users' data: no cohort, no losses, no un-noised metrics",
            "no",
            "nothing can prevent it; look at what else was published, in the run's own files too"
            if simulation
            else "nothing can prevent it; look at what else was published",
        ),
        _row(
            "the operator",
            "may count the number of users, here taken from the log, and the catalogue as known to all"
            if simulation
            else "takes the number of users and the catalogue from public knowledge, not from logs",
            "no",
            "both are given to the program, which cannot know where they came from",
        ),
        _row(
            "one person",
            "is one user: several accounts of a person share no bound",
            "no",
            "accounts are not linked; with k accounts the bounds of all k add up",
        ),
    ]
    if privacy["sampling"] < 1:
        found.append(
            _row(
                "the server",
                "keeps secret who takes part in which round",
                "no" if seeded(privacy) else "partly",
                "who takes part follows from the seed"
                if seeded(privacy)
                else "each user is drawn on its own from the operating system's randomness and the draw is not written "
                "down; whoever watches the machine or its network could see it",
            )
        )
    if seeded(privacy):
        found.append(
            _row(
                "everybody",
                "does not know the seed that the noise follows from",
                "no",
                "the seed is in the run's files",
            )
        )
    else:
        found.append(
            _row(
                "the operating system",
                "gives random numbers that nobody can predict",
                "partly",
                "noise is ChaCha20 keyed from the system's generator and is not kept; the generator is not tested",
            )
        )
    return found


def not_protected(privacy: Mapping[str, Any], dataset: Mapping[str, Any], simulation: bool) -> list[str]:
    """What can be learned all the same, one sentence each."""
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
        if seeded(privacy):
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


def _row(who: str, must: str, enforced: str, how: str) -> dict[str, str]:
    return {"who": who, "must": must, "enforced": enforced, "how": how}
