"""The set-up of a run, priced before any query: its public description, algorithm and privacy plan."""

from dataclasses import dataclass

import torch

from fedrec.algorithms.base import Algorithm, ItemStart
from fedrec.data.catalogue import Catalogue
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.federation.data_request import DataRequest
from fedrec.federation.spec import RunSpec, UsersNoise
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.settings import Settings

_DISTRIBUTED = ("dropout", "colluding", "bits")
_BY_AGGREGATORS = ("dropout", "bits", "noise_by")


@dataclass(frozen=True)
class RunSetup:
    """A priced run.

    Attributes:
        spec: the description that server and nodes share.
        algorithm: the algorithm, built from the description.
        plan: the privacy plan, which only the server has.
    """

    spec: RunSpec
    algorithm: Algorithm
    plan: PrivacyPlan


def set_up_run(
    kind: type[Algorithm],
    config: Settings,
    privacy: PrivacyConfig,
    catalogue: Catalogue,
    users: int,
    data: DataRequest,
    *,
    noise_seed: int | None,
    device: str = "cpu",
    stopping: StoppingConfig | None = None,
    start: ItemStart | None = None,
) -> RunSetup:
    """Set up a run and price all its queries, before any user is queried.

    Args:
        kind: the algorithm's class.
        config: the algorithm's settings.
        privacy: the guarantee that the run must keep.
        catalogue: the items.
        users: size of the population.
        data: the request for data, with the public seed.
        noise_seed: seed of the noise; None for secret noise. It never travels.
        device: device of the algorithm's tensors.
        stopping: private looks between the rounds; None for none.
        start: item vectors of another run; None for the algorithm's own start.
    Raises: PrivacyError when the guarantee cannot be proven; InputError when the settings do not fit the data.
    """
    spec = RunSpec(
        algorithm=kind.name,
        settings=config.model_dump(mode="json"),
        data=data.text(),
        catalogue=catalogue.digest,
        users=users,
        expected_cohort=users * privacy.cohort_share,
        mu=privacy.mu(users) if privacy.private else None,
        evaluation_share=privacy.evaluation_share,
        stopping=stopping or StoppingConfig(),
        seed=data.seed,
        noise=_users_noise(privacy),
        clipping=privacy.clipping if privacy.clipping.adaptive else None,
        row_cap=privacy.row_cap if privacy.private else None,
    )
    algorithm = spec.build(catalogue, torch.device(device), kind, start)
    rounds = [algorithm.queries(round_index) for round_index in range(algorithm.rounds)]
    return RunSetup(spec, algorithm, PrivacyPlan.build(privacy, rounds, users, noise_seed, f"{data.seed}"))


def _users_noise(privacy: PrivacyConfig) -> UsersNoise | None:
    """Return the settings of the users' noise; None where the server adds it, or nobody does."""
    if privacy.trust == "central" or privacy.epsilon == "none":
        return None
    own = _BY_AGGREGATORS if privacy.noise_by == "aggregators" else _DISTRIBUTED
    return UsersNoise(
        trust=privacy.trust,
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        sampling=privacy.sampling,
        participation="hidden" if privacy.hidden else None,
        **({name: getattr(privacy, name) for name in own} if privacy.trust == "distributed" else {}),
    )
