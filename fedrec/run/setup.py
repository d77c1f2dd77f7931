"""A run, priced before a user is asked: its public description, the algorithm, and the plan that it must keep."""

from dataclasses import dataclass

import torch

from fedrec.algorithms.base import Algorithm
from fedrec.data.catalogue import Catalogue
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.federation.exchange import DataRequest
from fedrec.federation.spec import RunSpec
from fedrec.privacy.plan import PrivacyConfig, PrivacyPlan
from fedrec.settings import Settings


@dataclass(frozen=True)
class RunSetup:
    """What server and nodes agree on, and what the server alone has: the plan."""

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
) -> RunSetup:
    """Price everything before a user is asked. noise_seed: None for secret noise; it never travels.

    stopping: None for no private look before the end.

    Raises: PrivacyError when the guarantee cannot be proven; InputError when the settings do not fit the data.
    """
    spec = RunSpec(
        algorithm=kind.name,
        settings=config.model_dump(mode="json"),
        data=data.text(),
        catalogue=catalogue.digest,
        users=users,
        expected_cohort=users * privacy.sampling,
        mu=privacy.mu() if privacy.private else None,
        evaluation_share=privacy.evaluation_share,
        stopping=stopping or StoppingConfig(),
        seed=data.seed,
    )
    algorithm = spec.build(catalogue, torch.device(device), kind)
    rounds = [algorithm.queries(round) for round in range(algorithm.rounds)]
    return RunSetup(spec, algorithm, PrivacyPlan.build(privacy, rounds, users, noise_seed))
