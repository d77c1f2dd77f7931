"""Epsilon against each adversary, by the trust model of a run's first record.

`central`: the server is trusted, and no bound holds against it. `distributed`: an adversary meets the noise of the
shares that it does not know: of users, or of server and helper, where each of these adds the whole noise. `local`: each
user's message has the whole noise, so one epsilon holds against everybody.

With hidden participation, sampling lowers epsilon against all of them but one who sees a device's coin.
"""

import math
from collections.abc import Sequence

import numpy as np

from fedrec.audit.accountant import skellam
from fedrec.audit.accountant.recompute import gaussian_epsilon
from fedrec.audit.entries.account import Account
from fedrec.audit.entries.participation import separation
from fedrec.audit.entries.records import Shares
from fedrec.audit.statement.promise import rounded_up, rounded_up_text
from fedrec.audit.statement.schema import Adversary
from fedrec.charge import Charge

ADVERSARIES = {
    "model_recipients": "anyone who gets the released model, or every one of them, or another user",
    "knows_the_cohort": "someone who also sees who takes part in which round (the sampling is then no help)",
    "server": "the server itself",
    "server_with_colluders": "the server together with other users",
    "secure_aggregation_fails": "anyone who reads what a device sends, where secure aggregation fails or is not used",
}
HELPER = {
    "helper": "the helper, the second party that keeps the masks",
    "server_and_helper": "the server and the helper together",
}
AGGREGATORS = 2
"""Shares in a sum to which server and helper add the noise."""
RECIPIENTS = "anyone who gets the released model, or another user"


def adversaries(known: Account, epsilon: str | None) -> list[Adversary]:
    """Return a row an adversary.

    Args:
        known: the contents of the ledger's records.
        epsilon: that the run is charged; None for no bound.
    """
    if known.begin.shares is not None:
        return _discrete(known, known.begin.shares, epsilon)
    return _central(known, epsilon)


def total_mu(charges: Sequence[Charge]) -> float:
    """Total signal-to-noise of all Gaussian releases where everybody takes part, or who does is known."""
    events = [event for charge in charges for event in charge.events]
    return math.sqrt(math.fsum(event.count / float(event.noise_multiplier) ** 2 for event in events))


def _central(known: Account, epsilon: str | None) -> list[Adversary]:
    begin, asked = known.begin, any(charge.queries for charge in known.charges)
    cohort = None
    if epsilon is not None:
        mu = total_mu(known.charges)
        delta = begin.delta
        cohort = rounded_up(0.0 if delta is None else float(gaussian_epsilon(np.array(mu), float(delta))))
    server = None if asked else "0.0000"
    against = {
        "model_recipients": rounded_up_text(epsilon),
        "knows_the_cohort": cohort,
        "server": server,
        "server_with_colluders": server,
        "secure_aggregation_fails": server,
    }
    sampled = float(begin.sampling.probability) < 1
    known_blocks = "who takes part in which round is public, and nothing was counted for it"
    everybody = "everybody always takes part" if separation(begin) is None else known_blocks
    why = {
        "model_recipients": "clip and noise",
        "knows_the_cohort": "clip and noise alone, without the sampling" if sampled else everybody,
        "server": "it sees the sums before it adds the noise",
        "server_with_colluders": "as the server",
        "secure_aggregation_fails": "there is none in this run, and a device's message carries no noise of its own",
    }
    found = []
    for name, who in ADVERSARIES.items():
        bound = against[name]
        if bound is not None and float(bound) == 0:
            reason = "nothing depends on users"
        else:
            reason = why[name] if begin.private else "there is neither clip nor noise"
        found.append(Adversary(adversary=name, who=who, epsilon=bound, why=reason))
    return found


def _discrete(known: Account, shares: Shares, charged: str | None) -> list[Adversary]:
    if shares.by_aggregators:
        return _two_parties(known, charged)
    local, coins = known.begin.trust == "local", known.begin.hidden
    honest = shares.counted
    rows = {
        "model_recipients": (RECIPIENTS, shares.least - 1, f"the noise of {shares.least - 1} users"),
        "knows_the_cohort": (
            ADVERSARIES["knows_the_cohort"],
            shares.least - 1,
            "the noise alone, without the secret coin" if coins else "no sampling was counted",
        ),
        "server": (ADVERSARIES["server"], shares.least, f"the noise of {shares.least} users, in a sum that it reads"),
        "server_with_colluders": (
            f"the server together with {shares.colluding} other users of a round",
            honest,
            f"the noise of the other {honest} users",
        ),
    }
    if shares.aggregator == "helper":
        rows["helper"] = (HELPER["helper"], shares.least, "it sees masks, and of the users no more than the model")
        rows["server_and_helper"] = (
            HELPER["server_and_helper"],
            1,
            "they can unmask one user, whose own noise is left",
        )
    rows["secure_aggregation_fails"] = (
        ADVERSARIES["secure_aggregation_fails"],
        1,
        "each message carries the whole noise" if local else "one user's own share of the noise is all that is left",
    )
    found = []
    for name, (who, unknown, why) in rows.items():
        left, secret = 1 if local else unknown, coins and name != "knows_the_cohort"
        as_charged = left == honest and (secret or not coins)
        bound = rounded_up_text(charged) if as_charged else _epsilon(known, left, secret=secret)
        reason = "nothing depends on users" if bound is not None and float(bound) == 0 else why
        reason = "each message carries the whole noise" if local and reason == why and secret == coins else reason
        if secret and reason != "nothing depends on users":
            reason += "; and amplified by sampling: which messages hold zeros is known to their devices alone"
        found.append(Adversary(adversary=name, who=who, epsilon=bound, why=reason))
    return found


def _two_parties(known: Account, charged: str | None) -> list[Adversary]:
    """Return the rows where server and helper each add the whole noise."""
    both, one = _epsilon(known, AGGREGATORS, secret=False), rounded_up_text(charged)
    none = _epsilon(known, 0, secret=False)
    alone = "a device's message carries no noise of its own"
    rows = {
        "model_recipients": (RECIPIENTS, both, "the noise of both, server and helper"),
        "knows_the_cohort": (ADVERSARIES["knows_the_cohort"], both, "no sampling was counted"),
        "server": (ADVERSARIES["server"], one, "the noise of the helper, which it cannot take off"),
        "server_with_colluders": (
            "the server together with other users, of any number",
            one,
            "the noise of the helper: no user adds any",
        ),
        "helper": (HELPER["helper"], one, "it sees masks, and the model with the noise of the server"),
        "server_and_helper": (HELPER["server_and_helper"], none, f"they can unmask one user, and {alone}"),
        "secure_aggregation_fails": (ADVERSARIES["secure_aggregation_fails"], none, alone),
    }
    return [
        Adversary(
            adversary=name,
            who=who,
            epsilon=bound,
            why="nothing depends on users" if bound is not None and float(bound) == 0 else why,
        )
        for name, (who, bound, why) in rows.items()
    ]


def _epsilon(known: Account, shares: int, *, secret: bool) -> str | None:
    """Recompute epsilon against who does not know `shares` of the noise shares; None for no bound.

    Args:
        known: the contents of the ledger's records.
        shares: how many of them.
        secret: whether the users' coins are unknown, too.
    """
    if shares < 1 and any(charge.queries for charge in known.charges):
        return None
    rounds: list[list[skellam.Release]] = []
    for charge in known.charges:
        releases = []
        for query in charge.queries:
            if query.discrete is None:
                return None
            variance = float(query.discrete.share_variance) * shares
            releases.append((variance, query.discrete.squared, query.discrete.absolute, 1))
        rounds.append(releases)
    if not any(rounds) or known.begin.delta is None:
        return "0.0000"
    coins = float(known.begin.sampling.probability) if secret else None
    return rounded_up(float(skellam.curve(rounds, float(known.begin.delta), coins).epsilon[-1]))
