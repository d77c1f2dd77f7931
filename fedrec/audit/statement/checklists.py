"""Two published checklists, answered from the facts of one statement.

Sources: the items that "How to DP-fy ML" (Ponomareva et al. 2023, section 5.3) asks every report of a guarantee to
state, and the pyramid by which NIST SP 800-226 (2025) evaluates one. A level of the pyramid holds only as far as the
levels below it. Each row has a "status": yes, partly, no, or "unknown" where the record has no answer.
"""

from fedrec.audit.statement.assumptions import seeded
from fedrec.audit.statement.schema import DpFyRow, Level, PrivacyStatement, PyramidRow, Status

STRONG, REASONABLE = 1.0, 10.0
"""Epsilon up to which "How to DP-fy ML" calls a guarantee strong, and reasonable."""


IN_WORDS = {"perfect": "nothing is learned", "none": "no protection"}
"""The strengths that need more than a word."""


def how_to_dp_fy_ml(stated: PrivacyStatement) -> list[DpFyRow]:
    """Answer the reporting checklist.

    Args:
        stated: its sentences and checklists are not read.
    """
    private, released = _private(stated), bool(stated.releases)
    sections: dict[str, list[tuple[str, Status, str]]] = {
        "Setting": [("Who adds the noise, and who is trusted", *_setting(stated))],
        "Definition": [
            ("Accesses to the data that are covered", *_accesses(stated)),
            ("What the mechanism's output is", *_output(stated)),
            (
                "Unit of privacy",
                "yes" if private or not released else "no",
                f"One {stated.unit}, with all they did.",
            ),
            (
                "Adjacency",
                "yes" if private or not released else "no",
                f"{_capital(stated.adjacency)}; their number is public and stays.",
            ),
        ],
        "Accounting": [
            ("Type of accounting", *_accounting(stated)),
            ("Assumptions of the accounting", *_sampling(stated)),
            ("Formal statement", *_formal(stated)),
            ("Tuning of hyper-parameters", *_tuning(stated)),
        ],
        "Transparency": [("Can others check it", *_verifiable(stated))],
    }
    return [
        DpFyRow(section=section, item=item, status=status, answer=answer)
        for section, rows in sections.items()
        for item, status, answer in rows
    ]


def nist_sp_800_226(stated: PrivacyStatement) -> list[PyramidRow]:
    """Answer the pyramid, top first."""
    levels: dict[Level, list[tuple[str, Status, str]]] = {
        "top": [("Privacy parameters", *_parameters(stated)), ("Unit of privacy", *_unit(stated))],
        "middle": [
            ("Algorithms and their correctness", *_algorithms(stated)),
            ("Utility", *_utility(stated)),
            ("Bias", "unknown", "Not measured in this record: whether noise and clip hurt some groups of users more."),
        ],
        "base": [
            ("Trust model", *_setting(stated)),
            ("Access control", *_access(stated)),
            ("Side channels", *_side_channels(stated)),
            ("Exposure while data are collected", *_collection(stated)),
        ],
    }
    return [
        PyramidRow(level=level, item=item, status=status, answer=answer)
        for level, rows in levels.items()
        for item, status, answer in rows
    ]


def strength(epsilon: float | None) -> str:
    """Return the word of "How to DP-fy ML" for an epsilon: none, weak, reasonable, strong, or perfect at 0.

    Args:
        epsilon: None for no bound.
    """
    if epsilon is None:
        return "none"
    return (
        "perfect"
        if epsilon == 0
        else "strong"
        if epsilon <= STRONG
        else "reasonable"
        if epsilon <= REASONABLE
        else "weak"
    )


def _private(stated: PrivacyStatement) -> bool:
    return stated.epsilon is not None and bool(stated.releases)


def _against(stated: PrivacyStatement, adversary: str) -> str | None:
    return next((row.epsilon for row in stated.adversaries if row.adversary == adversary), None)


def _setting(stated: PrivacyStatement) -> tuple[Status, str]:
    server = _against(stated, "server")
    if not stated.releases:
        return "yes", "Nothing is asked of users, so nobody need be trusted."
    if not _private(stated):
        return "no", "Nobody adds noise."
    if server is None:
        return "partly", f"{_capital(stated.trust)}: the server is trusted; it sees the sums before the noise."
    return "yes", f"{_capital(stated.trust)}: epsilon {server} holds against the server too."


def _accesses(stated: PrivacyStatement) -> tuple[Status, str]:
    if not stated.releases:
        return "yes", "There are none."
    covered = f"Training: {stated.rounds} rounds, {len(stated.budget)} queries, each charged before its release."
    if not _private(stated):
        return "no", "None is covered."
    outside = []
    if stated.tuned_on:
        outside.append(f"the tuning on {stated.tuned_on}")
    if stated.simulation:
        outside.append("the true metrics and counts that a simulation writes down")
    return ("partly", f"{covered} Not covered: {' and '.join(outside)}.") if outside else ("yes", covered)


def _output(stated: PrivacyStatement) -> tuple[Status, str]:
    if not stated.releases:
        return "yes", "What public information gives."
    if not _private(stated):
        return "no", "Sums without noise, and what is made of them."
    return "yes", "All noisy sums of all rounds, not the last model alone, and so everything that is made of them."


def _accounting(stated: PrivacyStatement) -> tuple[Status, str]:
    if not _private(stated):
        return ("no", "None.") if stated.releases else ("yes", "None is needed.")
    if stated.trust != "central":
        return "yes", (
            f"Epsilon by Renyi DP of Skellam noise: {stated.epsilon}, an upper bound. The audit recomputes it by code "
            "that training does not use."
        )
    by = ", ".join(f"{name.upper()} {value}" for name, value in stated.accountants)
    software = stated.software
    named = ", ".join(f"{name} {software[name]}" for name in ("dp-accounting", "opacus") if name in software)
    return "yes", f"Epsilon by {by}, from {named}; all are upper bounds, and PLD is the one that is promised."


def _sampling(stated: PrivacyStatement) -> tuple[Status, str]:
    if not _private(stated):
        return ("no", "None.") if stated.releases else ("yes", "None.")
    sampled = any(float(row.sampling) < 1 for row in stated.releases)
    what = (
        "Poisson sampling is assumed, and each user is drawn on its own"
        if sampled
        else "Every user counts as taking part in every round, so no assumption on sampling is made"
    )
    if stated.participation.limit.startswith("one of every"):
        what = f"No sampling is assumed: each user takes part in {stated.participation.limit}"
    if seeded(stated.noise_source):
        return "no", f"{what}; the noise is assumed secret, and here it follows from a seed."
    return ("partly", f"{what}; who is drawn must stay secret.") if sampled else ("yes", f"{what}.")


def _formal(stated: PrivacyStatement) -> tuple[Status, str]:
    if not _private(stated):
        return ("no", "None holds.") if stated.releases else ("yes", "Epsilon 0, delta 0.")
    curve = stated.curve
    more = f"; exactly {curve.mu}-Gaussian DP" if curve and curve.mu else ""
    return "yes", f"({stated.epsilon}, {stated.delta})-differential privacy of all releases together{more}."


def _tuning(stated: PrivacyStatement) -> tuple[Status, str]:
    if stated.tuned_on:
        return "no", f"Tuned on the private data of {stated.tuned_on}; epsilon does not cover it."
    return "unknown", "No tuning is recorded; choices made by hand after a look at private data are not recorded."


def _verifiable(stated: PrivacyStatement) -> tuple[Status, str]:
    entries = f"The ledger has {stated.ledger.entries} entries, fixed by one hash"
    return "yes", f"{entries} and signed; the code is open and anybody can recompute epsilon from it."


def _parameters(stated: PrivacyStatement) -> tuple[Status, str]:
    if stated.epsilon is None:
        return "no", "No epsilon holds."
    epsilon, users = float(stated.epsilon), stated.dataset.users
    words = strength(epsilon)
    answer = f"Epsilon {stated.epsilon}: {words}."
    if stated.delta is not None and users:
        delta = float(stated.delta)
        small = "below 1/users\u00b2" if delta <= users**-2 else "below 1/users, above 1/users\u00b2"
        answer += f" Delta {stated.delta}, {small}."
        return ("yes" if words in ("perfect", "strong") and delta <= users**-2 else _graded(words)), answer
    return _graded(words), answer


def _graded(words: str) -> Status:
    grades: dict[str, Status] = {"perfect": "yes", "strong": "partly", "reasonable": "partly"}
    return grades.get(words, "no")


def _unit(stated: PrivacyStatement) -> tuple[Status, str]:
    if stated.epsilon is None:
        return "no", "Nothing is bounded, for whatever unit."
    return "yes", f"One {stated.unit} with all they did, {stated.adjacency}: the strongest usual unit."


def _algorithms(stated: PrivacyStatement) -> tuple[Status, str]:
    if not stated.releases:
        return "yes", "No algorithm reads what users did."
    if not _private(stated):
        return "no", "Neither clip nor noise."
    if stated.trust != "central":
        return "yes", (
            "Sums of integers with the whole contribution of a user clipped, to which users add Skellam noise: bound, "
            "noise and sum are of whole numbers, and no floating-point error is left to read."
        )
    return "partly", (
        "Sums with the whole contribution of a user clipped and Gaussian noise added; two accountants by others. "
        "Sums are exact integers; the sampler of the noise is not exact."
    )


def _utility(stated: PrivacyStatement) -> tuple[Status, str]:
    if any(row.name == "evaluation" for row in stated.releases):
        return "yes", "Measured by a private sum, which is charged like every other release."
    if stated.simulation:
        return "partly", "Measured without noise, as only a simulation can; the guarantee does not cover those figures."
    return "unknown", "No figure is in this record."


def _access(stated: PrivacyStatement) -> tuple[Status, str]:
    if stated.simulation:
        return "no", "A simulation: its operator could read all data."
    return "unknown", "Who can reach the server, its memory and its logs is not in this record."


def _side_channels(stated: PrivacyStatement) -> tuple[Status, str]:
    if not stated.releases:
        return "yes", "No computation depends on users."
    if not _private(stated):
        return "no", "Open: there is no noise that could hide anything."
    if seeded(stated.noise_source):
        return "no", "Open: the noise follows from a seed, and no proof covers time or the sampler's rounding."
    return (
        "partly",
        "Noise comes from a cryptographic generator, sums are exact; no proof covers time or the sampler's rounding.",
    )


def _collection(stated: PrivacyStatement) -> tuple[Status, str]:
    if stated.simulation:
        return "no", "All users' data were in one place, with the operator of the simulation."
    if not stated.releases:
        return "yes", "Nothing is collected."
    if _against(stated, "server") is None:
        return "partly", "Histories stay on the devices; each device's contribution reaches the server in the clear."
    return "yes", "Histories stay on the devices, and the server learns of contributions only what epsilon allows."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
