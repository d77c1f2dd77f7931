"""The parts of a run's first record that follow from its trust model: who adds the noise, and how it is priced."""

from importlib.metadata import version

from fedrec import __version__
from fedrec.audit.entries.records import Mechanism, Sampling, Shares
from fedrec.privacy.plan import BANDED, HIDDEN, MECHANISM, ROUNDING, SKELLAM, TWO_NOISES, PrivacyPlan

TRUST = {
    "central": "the server sees the un-noised sums and adds the noise: it is trusted. No secure aggregation, so "
    "nothing holds against a server that colludes with anybody; users that drop out of a round leave its noise whole",
    "distributed": "each user adds a share of the noise before its message leaves, and secure aggregation shows the "
    "server the noisy sum alone: an honest-but-curious server is not trusted with anything else. It holds up to the "
    "stated dropout, below which a round is void, and up to the stated number of colluding users",
    "local": "each user adds the whole noise before its message leaves: nobody is trusted but the user's own device",
}


AGGREGATORS = (
    "server and helper each add the whole noise to their own half of a secure sum before it is opened: neither is "
    "trusted with more than its own noise, and no user with any. Together they are: no message carries noise of its own"
)


def assumption(plan: PrivacyPlan) -> str:
    """Return whom the trust model trusts with what."""
    return AGGREGATORS if plan.config.noise_by == "aggregators" else TRUST[plan.config.trust]


def mechanism(plan: PrivacyPlan) -> Mechanism:
    """Return how noise is added."""
    if plan.discrete is None:
        return Mechanism(
            name=MECHANISM if plan.banded is None else BANDED,
            noise_per_user="0.0: the server adds it once to the sum",
            rounding=f"to a grid of a power of two, at most {ROUNDING!r} of the noise's standard deviation",
            bits=None,
            modulus=None,
        )
    bits = [plan.discrete.query(place, name).encoding.bits for place, asked in enumerate(plan.rounds) for name in asked]
    return Mechanism(
        name=TWO_NOISES if plan.discrete.shares.by_aggregators else HIDDEN if plan.config.hidden else SKELLAM,
        noise_per_user="0.0: server and helper each add Skellam noise of the query's share_variance to each integer"
        if plan.discrete.shares.by_aggregators
        else "each user adds Skellam noise of the query's share_variance to each of its integers",
        rounding="rotated: at random, drawn anew until the squared L2 norm is at most `squared`, which is checked on "
        "the integers; plain: towards zero",
        bits=max(bits, default=None),
        modulus=None,
        wrap_probability=repr(plan.discrete.wrap_probability),
    )


def accountants(plan: PrivacyPlan) -> dict[str, str]:
    """Return the program behind each accountant."""
    if plan.discrete is not None:
        coins = ", each user's coin by the binomial series" if plan.config.hidden else ""
        return {"rdp": f"fedrec {__version__}, Skellam at whole orders (arXiv 2110.04995){coins}"}
    return {"pld": f"dp-accounting {version('dp-accounting')}", "rdp": f"opacus {version('opacus')}"}


def sampling(plan: PrivacyPlan) -> Sampling:
    """Return who takes part in a round, and what that counts for."""
    probability = plan.config.sampling
    if plan.banded is not None:
        return Sampling(
            probability="1.0",
            claimed=f"each user in one of every {plan.banded.separation} rounds that ask the same, in a block that "
            "anyone can compute; everybody in every other round",
            enforced="by the plan, which draws the blocks, and by each device, which contributes zero to a question "
            "that comes too early; no amplification is counted",
        )
    if probability == 1:
        return Sampling(probability="1.0", claimed="every user, every round", enforced="nothing is left to chance")
    if plan.config.hidden:
        return Sampling(
            probability=repr(probability),
            claimed="hidden: everybody answers every round, and each user's own coin decides between its contribution "
            "and zeros",
            enforced="by each device, which draws a new coin for every charge, keeps it nowhere and shows it nobody",
        )
    if plan.discrete is not None:
        return Sampling(
            probability=repr(probability),
            claimed="Poisson: each user on its own, afresh every round",
            enforced="nothing is claimed from it: every round is priced as if its cohort were known to all",
        )
    return Sampling(
        probability=repr(probability),
        claimed="Poisson: each user on its own, afresh every round, and nobody is told who",
        enforced="by the server, which draws the cohort from the noise source and is trusted to keep it secret",
    )


def shares(plan: PrivacyPlan) -> Shares | None:
    """Return the noise shares; None for trust model `central`."""
    if plan.discrete is None:
        return None
    numbers = plan.discrete.shares
    found = Shares(
        expected=numbers.expected,
        least=numbers.least,
        colluding=numbers.colluding,
        aggregator="none" if numbers.local else plan.config.aggregator,
    )
    return found.model_copy(update={"noise_by": "aggregators"}) if numbers.by_aggregators else found
