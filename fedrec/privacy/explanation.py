"""Every parameter of a privacy plan, with the reason for its value, before anything is computed."""

import math
from dataclasses import dataclass

from fedrec.privacy.accounting import Event, epsilon_pld, interval_for
from fedrec.privacy.accounting import gaussian_epsilon as exact_epsilon
from fedrec.privacy.banded.comparison import compare
from fedrec.privacy.banded.streams import BandedNoise
from fedrec.privacy.discrete import encoding, hidden
from fedrec.privacy.discrete.renyi import gaussian_epsilon
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.skellam_noise import SkellamNoise

SHOWN = 12
"""Coefficients of a factor that are shown."""

WHO = {
    "central": "the server, once, on the exact sum: it is trusted with sums without noise",
    "distributed": "each user a share, before its message leaves; masks show the server the sum alone",
    "local": "each user all of it, before its message leaves: nobody else is trusted",
}

BOTH = "server and helper, each all of it to its own half of a masked sum, before it is opened"


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
        name: its name; for a query, with the query's name.
        value: its value, as text.
        why: the reason for it, one sentence.
    """

    name: str
    value: str
    why: str


def explain(plan: PrivacyPlan) -> list[Row]:
    """Return a row a parameter: the guarantee, who adds the noise, each query's clip, noise and integers.

    Args:
        plan: a priced plan.
    """
    config = plan.config
    if config.epsilon == "none":
        return [Row("epsilon", "none", "the scenario asks for no privacy: nothing is clipped and no noise is added")]
    shared_by_two = plan.discrete is not None and plan.discrete.shares.by_aggregators
    rows = [
        Row(
            "epsilon, delta", f"{config.epsilon:g}, {config.delta:g}", "the target of all releases of the run together"
        ),
        Row("population", f"{plan.users:,} users", "public; removing a user means that the user adds zeros"),
        Row("trust", config.trust, f"noise is added by {BOTH if shared_by_two else WHO[config.trust]}"),
        Row("accountant", *_accountant(plan)),
        Row("separation", f"{config.separation}", _separation(plan.banded))
        if plan.banded is not None
        else Row("sampling", f"{config.sampling:g}", _sampling(plan)),
        *([] if plan.discrete is None else _shares(plan.discrete)),
    ]
    seen = set()
    for place, queries in enumerate(plan.rounds):
        for name, query in queries.items():
            if (query, key := plan.noise_multiplier(place, name)) in seen:
                continue
            seen.add((query, key))
            times = sum(query in asked.values() for asked in plan.rounds)
            rows.append(
                Row(
                    f"{name}: noise",
                    f"{key:.4g} clips of {query.clip_norm:g}",
                    f"{query.budget_share:.3g} of the budget a round, in {times} round(s), for {query.size:,} numbers",
                )
            )
            if query.factors is not None:
                smallest, largest = (query.clip_norm * factor for factor in query.factors)
                row = f"from {query.clip_norm:g}, within {smallest:g} to {largest:g}"
                rows.append(Row(f"{name}: clip", row, "adapts: noise follows it, and in clips stays the same"))
            if plan.discrete is not None:
                rows += _integers(plan.discrete, place, name)
    if plan.discrete is not None:
        rows += _outcome(plan, plan.discrete)
    if plan.banded is not None:
        rows += _correlation(plan)
    return rows


def show(plan: PrivacyPlan) -> None:
    """Print every parameter of a priced plan as a table."""
    from rich.table import Table

    from fedrec.screen import plain_console

    table = Table("parameter", "value", "why", box=None, pad_edge=False)
    for row in explain(plan):
        table.add_row(row.name, row.value, row.why)
    plain_console().print(table)


def _accountant(plan: PrivacyPlan) -> tuple[str, str]:
    if plan.discrete is None:
        return "PLD", "the tightest that is proven for the sampled Gaussian"
    return "Renyi DP", "at whole orders, the only bound that is proven for Skellam noise"


def _sampling(plan: PrivacyPlan) -> str:
    if plan.config.sampling == 1:
        return "every user in every round"
    if plan.config.hidden:
        return "each user's own secret coin, new in every round: it lowers epsilon against the server, too"
    if plan.discrete is not None:
        return "every round is priced as if its cohort were known: the server of a secure sum knows it"
    return "each user on its own, which lowers epsilon against everybody who does not know the cohort"


def _separation(banded: BandedNoise) -> str:
    return (
        f"each user takes part in one of every {banded.separation} rounds that ask the same, and in all others; "
        "devices enforce it, and no amplification is counted"
    )


def _correlation(plan: PrivacyPlan) -> list[Row]:
    """Return the factor of the first stream, and its noise against that of the other ways."""
    found = compare(plan)
    factor = found.factor
    shown = ", ".join(f"{each:g}" for each in factor.coefficients[:SHOWN])
    more = len(factor.coefficients) - SHOWN
    most = math.ceil(factor.steps / len(factor.coefficients))
    per_sum = "on the sum of all releases so far, in clips: root mean square over the rounds"
    return [
        Row(
            "correlation",
            shown + (f" and {more} more" if more > 0 else ""),
            "weights of the rounds before in a round's noise: the least noise on sums of releases",
        ),
        Row(
            "sensitivity",
            f"{factor.sensitivity:.4g} clips",
            f"of {factor.steps} rounds together, to a user who takes part in {most} of them",
        ),
        Row("noise: correlated", f"{found.banded:.4g}", per_sum),
        Row("noise: independent", f"{found.independent:.4g}", "the same users and rounds, noise not correlated"),
        Row("noise: Poisson", f"{found.poisson:.4g}", "as many users, drawn in secret each round"),
        Row("noise: everybody", f"{found.everybody:.4g}", "all users in every round, for the same expected cohort"),
        Row("advice", "use it" if found.worthwhile else "sample instead", found.advice),
    ]


def _shares(noise: SkellamNoise) -> list[Row]:
    shares, config = noise.shares, noise.config
    coins = []
    if config.hidden:
        why = f"everybody answers in every round: {1 / config.sampling:.4g} messages for one contribution"
        coins = [Row("participation", config.participation, why)]
    if shares.local:
        return [*coins, Row("noise shares", "1", "each user hides alone, whatever the others do")]
    if shares.by_aggregators:
        least = f"a round with fewer than {shares.least:,} users is void, and charged; any number has the whole noise"
        return [
            Row("dropout", f"{config.dropout:g}", least),
            Row("colluding", "any", "no user adds noise, so epsilon holds whatever users show the server theirs"),
            Row("noise shares", "1 of 2", f"of server and helper; both have {math.sqrt(2):.4f} times one's noise"),
            Row("aggregator", config.aggregator, "it keeps the masks; server and helper together would see sums bare"),
        ]
    return [
        *coins,
        Row("dropout", f"{config.dropout:g}", f"a round with fewer than {shares.least:,} users is void, and charged"),
        Row("colluding", f"{config.colluding:g}", f"{shares.colluding:,} users may show the server their shares"),
        Row(
            "noise shares",
            f"{shares.counted:,} of {shares.expected:,}",
            f"epsilon rests on these; all have {math.sqrt(shares.expected / shares.counted):.4f} times their noise",
        ),
        Row("aggregator", config.aggregator, "who keeps the masks"),
    ]


def _integers(noise: SkellamNoise, place: int, name: str) -> list[Row]:
    known = noise.query(place, name)
    made, most = known.encoding, noise.shares.contributing
    if made.kind == "rotated":
        why = f"up to {encoding.LARGEST_ROTATED:,} numbers are rotated, so that every entry of a sum is small"
    elif noise.shares.local:
        why = "no modulus must be kept small, so nothing is rotated"
    else:
        why = f"more than {encoding.LARGEST_ROTATED:,} numbers: a rotated vector would be dense on every device"
    bits = "as set" if noise.config.bits is not None and made.kind == "rotated" else "the fewest that fit"
    wrap = math.exp(made.log_wrap(most, known.share * noise.most))
    adder = "the server, and as much of the helper," if noise.shares.by_aggregators else "one user"
    return [
        Row(f"{name}: encoding", f"{made.kind}, {made.dimension:,} numbers", why),
        Row(
            f"{name}: modulus",
            f"2^{made.bits}",
            f"{bits}: a sum of {most:,} users wraps around with at most {wrap:.1g}",
        ),
        Row(
            f"{name}: steps of the clip",
            f"{made.length:.6g}",
            f"as many as the modulus has room for; rounding costs {made.rounding_cost:.2%} more noise",
        ),
        Row(
            f"{name}: integers",
            f"D2^2 = {made.squared}, D1 = {made.absolute}",
            "enforced on the rounded integers" if made.kind == "rotated" else "rounding towards zero keeps the clip",
        ),
        Row(f"{name}: share", f"variance {known.share:.6g}", f"Skellam noise of {adder} on each integer"),
    ]


def _outcome(plan: PrivacyPlan, noise: SkellamNoise) -> list[Row]:
    everything = range(len(plan.rounds))
    gauss, exact = _gaussians(plan, noise)
    rows = [
        Row(
            "wrap-around",
            f"{noise.wrap_probability:.2g}",
            "at most, over all releases; it costs quality, never privacy",
        ),
        Row("epsilon of a Gaussian", f"{gauss:.4f}", "by Renyi DP, with the same noise: integers cost the rest"),
        Row("its exact epsilon", f"{exact:.4f}", "what the trusted server of `central` would state for the same noise"),
    ]
    for name, value in noise.adversaries(everything).items():
        rows.append(Row(f"epsilon against {name}", f"{value:.4f}", "of the whole run"))
    return rows


def _gaussians(plan: PrivacyPlan, noise: SkellamNoise) -> tuple[float, float]:
    """Return epsilon of Gaussian noise of the same strength: by Renyi DP at the same orders, and exactly."""
    delta, sampling = plan.config.delta, plan.config.sampling
    known = [[noise.query(place, name) for name in asked] for place, asked in enumerate(plan.rounds)]
    squares = [
        math.fsum((each.encoding.length / each.multiplier) ** 2 / each.encoding.squared for each in asked)
        for asked in known
    ]
    if plan.config.hidden:
        events = [Event(sampling, 1 / math.sqrt(square)) for square in squares if square]
        exact = epsilon_pld(events, delta, interval_for(events))
        return hidden.gaussian_epsilon(squares, sampling, delta), exact
    total = math.fsum(squares)
    return gaussian_epsilon(total, delta), exact_epsilon(math.sqrt(total), delta)
