"""The assumptions of a promise, with who must keep each and what enforces it; and what the promise does not cover."""

from fedrec.audit.entries.participation import separation
from fedrec.audit.entries.records import BeginRecord, NoiseSource
from fedrec.audit.statement.schema import Assumption, Enforced

_SAMPLER_LIMITS = (
    "noise is drawn in 64-bit floating point, not by an exact sampler: it is a sum of four normals, rounded to the "
    "lattice of the sums, which are exact integers. No proof covers the draw's own rounding, nor the time that the "
    "computation takes. On a GPU, a library may round one user's numbers by who else is in the batch"
)

_SHARE_LIMITS = (
    "each message takes a time to compute that no proof covers, and that a user answers at all is seen. On a GPU, a "
    "library may round one user's numbers by who else is in the batch, before the bound is enforced on that user's own"
)


def seeded(noise_source: str) -> bool:
    """Return whether the noise follows from a seed."""
    return noise_source == NoiseSource.SEEDED


def assumptions(begin: BeginRecord) -> list[Assumption]:
    """List what must be kept, by whom, and whether anything enforces it."""
    simulation, repeats = simulated(begin), seeded(begin.noise_source)
    found = [
        *_noise(begin),
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
            f"may take as known to all the number of users ({begin.population.known}) and the list of items "
            f"({_catalogue(begin)})",
            "no",
            "both are given to the program, which cannot check what else is known about them",
        ),
        _row(
            "one person",
            "is one user: several accounts of a person share no bound",
            "no",
            "accounts are not linked; with k accounts the bounds of all k add up",
        ),
    ]
    if (apart := separation(begin)) is not None:
        found.append(
            _row(
                "the simulation" if simulation else "every client",
                f"takes part with its user in at most one of every {apart} rounds in a row that ask the same",
                "yes" if simulation else "partly",
                "one plan draws the blocks of users, in the same process"
                if simulation
                else "the server asks so, and each device contributes zero to a question that comes too early",
            )
        )
        found.append(
            _row(
                "the server",
                f"keeps the noise of the last {apart} rounds in its memory alone, since later noise depends on it",
                "yes" if simulation else "no",
                "it is written nowhere; a run that is resumed begins with noise of its own, and pays for it",
            )
        )
    if float(begin.sampling.probability) < 1 and begin.shares is None:
        found.append(
            _row(
                "the server",
                "keeps secret who takes part in which round",
                "no" if repeats else "partly",
                "who takes part follows from the seed"
                if repeats
                else "each user is drawn on its own from the operating system's randomness and the draw is not written "
                "down; anyone who watches the machine or its network could see it",
            )
        )
    if begin.hidden:
        found.append(
            _row(
                "every client",
                "draws a new coin for every charge, does the same work for zeros, and shows nobody the coin",
                "no" if repeats else "yes" if simulation else "partly",
                "the coins follow from the seed"
                if repeats
                else "the coins of a simulation are drawn in one place and not written down"
                if simulation
                else "the client's code draws it from the system's generator, and neither keeps nor sends it; no proof "
                "covers the time of an answer",
            )
        )
    if repeats:
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


def _noise(begin: BeginRecord) -> list[Assumption]:
    """List what those who add the noise must keep, by trust model."""
    shares = begin.shares
    if shares is None:
        return [
            _row(
                "the server",
                "adds the noise as stated, shows nobody the sums before it, and forgets them: it is trusted",
                "no",
                "its own code does it and nobody else can see whether it did; the ledger records what it claims",
            )
        ]
    simulation = simulated(begin)
    drawn = (
        "a simulation draws the noise of all users at once, which has the distribution of their sum"
        if simulation
        else "the client's code draws it from the system's generator before anything leaves"
    )
    if begin.trust == "local":
        return [_row("every client", "adds the whole noise to its own numbers", "yes" if simulation else "no", drawn)]
    if shares.by_aggregators:
        return _two_parties(simulation)
    found = [
        _row(
            "the other clients",
            f"add their shares of the noise: at least {shares.counted} of {shares.expected} in every "
            "round, whom nobody makes show theirs",
            "yes" if simulation else "partly",
            f"{drawn}; a round with fewer than {shares.least} users is void, and {shares.colluding} may collude",
        ),
        _secure(simulation),
    ]
    if shares.aggregator == "helper":
        found.append(_apart())
    return found


def _two_parties(simulation: bool) -> list[Assumption]:
    """List what server and helper must keep where each adds the whole noise."""
    how = (
        "a simulation draws the noise of both at once, which has the distribution of the sum"
        if simulation
        else "it draws the noise before a sum is opened; the other party cannot see whether it did"
    )
    kept: Enforced = "yes" if simulation else "no"
    return [
        _row("the server", "adds the whole noise to its half of each sum: epsilon against the helper", kept, how),
        _row("the helper", "adds the whole noise to its half of each sum: epsilon against the server", kept, how),
        _secure(simulation),
        _apart(),
    ]


def _secure(simulation: bool) -> Assumption:
    return _row(
        "secure aggregation",
        "shows the server the sum of all messages alone",
        "no" if simulation else "yes",
        "a simulation adds without masks, which cancel in the sum" if simulation else "each message is masked",
    )


def _apart() -> Assumption:
    return _row("the helper", "does not collude with the server", "no", "nothing can prevent it")


def not_protected(begin: BeginRecord) -> list[str]:
    """List what can be learned in spite of the promise, one sentence each."""
    simulation, catalogue = simulated(begin), begin.catalogue
    found = [*begin.notes, *(begin.start.lines() if begin.start is not None else ())]
    if simulation:
        found.append("this was a simulation: all users' data were in one place, where its operator could read them")
        found.append(
            "the metrics of a simulation are the true ones, without noise, on the screen and in the private folder "
            "(summary, history, plots, checkpoint), and so are those of the baselines, whatever epsilon a baseline had"
        )
        found.append(
            "counts of the data (interactions, what cleaning dropped, how many users could be ranked), time and memory "
            "are exact there; the release folder contains none of them except the number of users"
        )
    if catalogue is not None and catalogue.k_core is not None:
        found.append(
            f"users and items with fewer than {catalogue.k_core} events were dropped from the log (k-core), so one "
            f"person's events decide which events of others are left: epsilon holds for the data after that, not for "
            f"the log"
        )
    if catalogue is None or catalogue.known != "given":
        how = "may have been taken from the log" if catalogue is None else f"is {catalogue.known}"
        found.append(f"the catalogue {how}: that an item occurs in it reveals that somebody used the item")
    shared = begin.shares is not None and not begin.shares.by_aggregators
    if begin.shares is not None and shared and begin.trust == "distributed" and not simulation:
        found.append(
            "the operator of a node who gets the model knows the noise of the node's own users: epsilon holds against "
            f"operators of at most {begin.shares.colluding} users of a round"
        )
    if begin.private:
        if seeded(begin.noise_source):
            found.append(
                "the noise of this run follows from its seed: anyone who knows the seed can take the noise off"
            )
        else:
            where = "the server" if begin.shares is None else "each device" if shared else "server and helper"
            found.append(f"the operating system's random generator and the memory of {where} are trusted")
        found.append(_SAMPLER_LIMITS if begin.shares is None else _SHARE_LIMITS)
    if begin.tuned_on:
        found.append(
            f"these settings were tuned on the private data of {begin.tuned_on}: epsilon does not cover what the "
            "choice of settings reveals"
        )
    found.append("choices that were made by looking at private data (settings, algorithms, when to stop) cost budget")
    found.append(_other_releases(begin))
    found.append("what can be learned about a person from others, from public facts, or from lists that they show")
    return found


def simulated(begin: BeginRecord) -> bool:
    """Return whether all users' data were in one place; in format 1, the role of the signing party gives the answer."""
    return "simulation" in begin.parties[0].role if begin.simulation is None else begin.simulation


def _catalogue(begin: BeginRecord) -> str:
    return "how it is known is not recorded" if begin.catalogue is None else begin.catalogue.known


def _other_releases(begin: BeginRecord) -> str:
    if begin.budget is not None:
        return (
            f"releases from the same people that do not draw from the budget '{begin.budget.name}', those of other "
            f"periods included: they add up with its cap; and a choice that was made by anything but protected outputs"
        )
    alone = (
        "whether this one draws from a shared one is not recorded"
        if begin.format == 1
        else "this one counts only itself"
    )
    return f"other releases from the same people: budgets of different runs add up, and {alone}"


def _row(who: str, must: str, enforced: Enforced, how: str) -> Assumption:
    return Assumption(who=who, must=must, enforced=enforced, how=how)
