"""The privacy plan of a deployment before any node is asked, for `--explain-privacy`."""

from pathlib import Path

from fedrec.data import datasets
from fedrec.data.readers import NODES
from fedrec.errors import InputError
from fedrec.federation.data_request import DataRequest
from fedrec.privacy.config import check_over_nodes
from fedrec.privacy.plan import PrivacyPlan
from fedrec.run.scenario import Scenario
from fedrec.run.setup import set_up_run


def planned(scenario: Scenario, data_dir: Path | None, users: int | None) -> PrivacyPlan:
    """Price a run over nodes.

    Args:
        scenario: the scenario to run.
        data_dir: folder of the datasets.
        users: of all nodes together; None counts those of a public dataset, whose shards the nodes are then.

    Raises:
        InputError: for settings that do not fit, or data of the nodes' own without a number of users.
        PrivacyError: for a plan whose guarantee cannot be proven.
    """
    check_over_nodes(scenario.privacy, scenario.engine.nodes, scenario.seed, "fedrec server", helper=True)
    seed = scenario.seed or 0
    if users is None and scenario.data.name == NODES:
        raise InputError("--explain-privacy: the nodes' own users are not known before they answer; give --users N")
    catalogue, _ = datasets.public_catalogue(scenario.data, data_dir, seed)
    if users is None:
        users = len(datasets.load(scenario.data, data_dir, seed).histories)
    request = DataRequest(data=scenario.data, on=scenario.evaluation.on, seed=seed)
    return set_up_run(
        scenario.algorithm_class,
        scenario.algorithm_config,
        scenario.privacy,
        catalogue,
        users,
        request,
        noise_seed=None,
        device=scenario.engine.device,
        stopping=scenario.stopping,
    ).plan
