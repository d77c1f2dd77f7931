"""Is correlated noise worth it? The noise of a stream against that of the other ways to spend the same epsilon.

The measure is that of the factor: the root mean square, over the steps, of the noise on the sum of all releases so far,
in clips, for the same expected cohort. Algorithms that add releases up (gradient descent, local training) meet it;
those that use each release by itself, as `als` does, meet the noise of single steps, which correlation makes larger.

| way | users of a step | counted |
|---|---|---|
| banded | one block of b | participations b steps apart |
| independent | one block of b | the same, noise independent |
| Poisson | each with probability 1/b | amplification by sampling, if nobody sees who takes part |
| everybody | all, for b times the devices' work | full participation; the sum is scaled to the expected cohort |
"""

import math
from dataclasses import dataclass

from fedrec.privacy import accounting
from fedrec.privacy.banded.factor import Factor, independent_error
from fedrec.privacy.plan import PrivacyPlan


@dataclass(frozen=True)
class Comparison:
    """Noise of the first stream of a plan, by the way in which it is made, in clips.

    Attributes:
        factor: of the stream.
        banded, independent, poisson, everybody: see the module.
    """

    factor: Factor
    banded: float
    independent: float
    poisson: float
    everybody: float

    @property
    def advice(self) -> str:
        """One sentence: which way has the least noise."""
        gain, every = self.banded / self.poisson, self.banded / self.everybody
        apart = len(self.factor.coefficients)
        if gain >= 1:
            first = f"Poisson sampling is better here: correlated noise is {gain:.2f} times that of "
        else:
            first = f"correlated noise is better here: {gain:.2f} times that of Poisson sampling with "
        second = f"{every:.2f} times that of all users in every round, which costs devices {apart} times the work"
        sums = "measured on sums of releases, so it holds for algorithms that add them up"
        return f"{first}privacy.sampling = {1 / apart:.3g}; {second} ({sums})"

    @property
    def worthwhile(self) -> bool:
        """Return whether correlated noise is less than that of Poisson sampling at the same epsilon."""
        return self.banded < self.poisson


def compare(plan: PrivacyPlan) -> Comparison:
    """Compare the first stream of a plan with correlated noise.

    Args:
        plan: a priced plan with `noise = "banded"`.
    """
    config, banded = plan.config, plan.banded
    assert banded is not None
    assert config.epsilon != "none"
    place = next(place for place in range(len(plan.rounds)) if banded.stream(place) is not None)
    stream = banded.stream(place)
    assert stream is not None
    factor, query = stream.factor, next(iter(plan.rounds[place].values()))
    shares = [math.fsum(query.budget_share for query in asked.values()) for asked in plan.rounds if asked]
    sampled = accounting.calibrate(shares, 1 / banded.separation, config.epsilon, config.delta)
    alone = banded.factor / math.sqrt(query.budget_share)  # the multiplier of a round in which everybody takes part
    summed = math.sqrt((factor.steps + 1) / 2)
    scale = alone / math.sqrt(factor.steps)
    most = math.ceil(factor.steps / banded.separation)
    return Comparison(
        factor=factor,
        banded=scale * factor.error,
        independent=scale * independent_error(factor.steps, most),
        poisson=sampled / math.sqrt(query.budget_share) * summed,
        everybody=alone * summed / banded.separation,
    )
