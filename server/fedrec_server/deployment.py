"""A whole run over nodes: from the scenario to the run directory, as a simulation writes it.

It has no true metrics, baselines or counts of the data, which only a simulation can compute. Quality is measured by
`privacy.evaluation_share` alone, which is charged.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fedrec.algorithms.base import Shared
from fedrec.audit.card.card import TIME
from fedrec.audit.card.helper import CardHelper
from fedrec.audit.entries.card_terms import CardTerms, HelperTerms
from fedrec.audit.entries.records import BeginRecord
from fedrec.audit.log.keys import public_key
from fedrec.audit.log.ledger import Ledger
from fedrec.data import datasets
from fedrec.data.readers import NODES
from fedrec.devices import check_device
from fedrec.errors import InputError
from fedrec.evaluation.private import private_figures, private_report
from fedrec.federation.adaptive_clipping import clip_figures
from fedrec.federation.data_request import DataRequest
from fedrec.model import ReleasedModel
from fedrec.privacy.config import check_over_nodes
from fedrec.run.checkpoint import load_checkpoint
from fedrec.run.coordinator import Outcome, RoundReport
from fedrec.run.directory import RunDirectory
from fedrec.run.federation import Federation
from fedrec.run.masked import assumption
from fedrec.run.records import Circumstances, Data
from fedrec.run.resume import open_run
from fedrec.run.scenario import Scenario, load_scenario
from fedrec.run.scenario_run import ScenarioRun
from fedrec.run.setup import set_up_run
from fedrec.run.shared_budget import reserve
from fedrec.secagg import Roster, parameters
from fedrec_server.flower.federation import FlowerFederation
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.messenger import Messenger, log
from fedrec_server.flower.nodes import NodeDirectory
from fedrec_server.helper.link import HelperAccess
from fedrec_server.pki import node_limits

DEPLOYED = Circumstances(
    role="whoever runs the server, who is trusted with the un-noised sums of each node",
    population="declared by each node, whatever the run asks for, at most the number that its key is good for, and "
    "taken as public; a node that declares none gives the number of users in its own log",
    simulation=False,
    unprotected=(
        "each node's clipped sums, which the server sees before the noise",
        "which nodes answered in a round, and how long they took: with sampling this grows with the number of their "
        "users who took part, and the server, its progress lines and logs, and the network show it; the number of "
        "messages and their sizes do not",
    ),
)
SHARDS = replace(
    DEPLOYED,
    population="counted by each node in its shard of a built-in, public dataset, after the run's filters",
)


def circumstances(scenario: Scenario) -> Circumstances:
    """Return what a statement says of a deployment of this scenario."""
    under = DEPLOYED if scenario.data.name == NODES else SHARDS
    if scenario.privacy.trust == "central" or not scenario.privacy.private:
        return under
    _, *answers = DEPLOYED.unprotected
    role = "the operator of the server, which receives sums that have their noise already"
    seen = [ANSWERED] if scenario.privacy.hidden else answers
    helper = ["the helper sees which nodes answered in a round, and how many users of each were asked"]
    return replace(under, role=role, unprotected=(*seen, *(helper if scenario.privacy.helped else ())))


ANSWERED = (
    "which nodes answered in a round, and how long they took: each computes for all of its users, whatever their "
    "secret coins, and no proof covers the time of an instruction"
)
"""Of hidden participation."""
CARD_DAYS = 30.0
"""Days until a run card expires, unless `federation.card_days` sets another number."""
SEEDED = "the noise follows from the scenario's seed, and the seed removes it; leave the seed out to protect users"


def with_helper(scenario: Scenario, began: RunDirectory | None = None) -> Scenario:
    """Return the scenario of a server that has a helper: it keeps the masks, unless the scenario says otherwise.

    Args:
        scenario: the scenario to run.
        began: folder of the run that continues, whose aggregator stays; None for a new run.
    """
    privacy = scenario.privacy
    if privacy.trust != "distributed" or "aggregator" in privacy.model_fields_set:
        return scenario
    aggregator = "helper"
    if began is not None and began.holds_run:
        own = str(scenario.algorithm["name"])
        aggregator = load_scenario(str(began.scenario), own_code=own).privacy.aggregator
    return scenario.model_copy(update={"privacy": privacy.model_copy(update={"aggregator": aggregator})})


def _named(helper: CardHelper) -> HelperTerms:
    return HelperTerms(key=helper.key.text, seeds=helper.seeds.hex(), proof=helper.proof.hex(), address=helper.address)


class Deployment(ScenarioRun):
    """One run in one folder over the nodes that `messenger` reaches.

    The constructor waits for `engine.nodes` nodes before anything is written.

    Args:
        scenario: the scenario to run.
        folder: the run's folder.
        messenger: the messenger that reaches the nodes.
        data_dir: folder of the datasets, for the items of a named one.
        resume: continue the run in `folder`.
        on_round: called with the report of each finished round.
        helper: the server's; it keeps the masks of a run in `distributed`, unless the scenario names `peers`.

    Raises:
        TooFewNodes: when too few nodes are connected.
        InputError: for settings, nodes or a folder that do not fit.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: RunDirectory,
        messenger: Messenger,
        data_dir: Path | None = None,
        *,
        resume: bool = False,
        on_round: Callable[[RoundReport], None] | None = None,
        helper: HelperAccess | None = None,
    ) -> None:
        check_device(scenario.engine.device, "engine.device")
        scenario = scenario if helper is None else with_helper(scenario, folder if resume else None)
        check_over_nodes(
            scenario.privacy, scenario.engine.nodes, scenario.seed, "fedrec server", helper=helper is not None
        )
        if scenario.start.run is not None:
            raise InputError("[start]: `fedrec simulate` starts from another run; a server does not, leave it out")
        self.helper = helper if scenario.privacy.helped else None
        if scenario.privacy.trust == "distributed" and self.helper is None:
            parameters(scenario.engine.nodes, assumption(scenario.privacy.colluding, scenario.privacy.dropout))
        self.folder, self.messenger, self._on_round = folder, messenger, on_round
        self.scenario, self.public_seed, self.resume = open_run(scenario, folder, resume=resume)
        scenario = self.scenario
        if scenario.privacy.private and scenario.seed is not None:
            log.warning("%s", SEEDED)
        self.under = circumstances(scenario)
        catalogue, taken_from = datasets.public_catalogue(scenario.data, data_dir, self.public_seed)
        # A node has a catalogue file of its own: the path of the server's file is not sent.
        public_data = scenario.data.model_copy(update={"catalogue": None} if scenario.data.name == NODES else {})
        request = DataRequest(data=public_data, on=scenario.evaluation.on, seed=self.public_seed)
        before = None
        if self.resume and folder.checkpoint.is_file():
            before = load_checkpoint(folder.checkpoint).run["nodes"]
        self.directory = NodeDirectory.gather(
            messenger,
            request,
            catalogue.digest,
            scenario.engine.nodes,
            scenario.federation.patience,
            before,
            node_limits.published(),
            masks=self._masks,
        )
        self.setup = set_up_run(
            scenario.algorithm_class,
            scenario.algorithm_config,
            scenario.privacy,
            catalogue,
            self.directory.users,
            request,
            noise_seed=scenario.seed if scenario.privacy.private else self.public_seed,
            device=scenario.engine.device,
            stopping=scenario.stopping,
        )
        self.reservation = reserve(scenario, folder, self.setup.plan, scenario.data.name)
        self.nodes = FlowerFederation(
            messenger,
            self.directory,
            self.setup.plan,
            self.setup.spec,
            scenario.federation,
            scenario.engine.device,
            self.helper,
        )
        self.data = Data(scenario.data.name, len(catalogue), taken_from, encoders=catalogue.encoders)
        self.card = self._card()
        self.identity = {"public_seed": self.public_seed, "nodes": self.directory.described()}

    def _card(self) -> CardTerms:
        config = self.scenario.federation
        expires = datetime.now(UTC) + timedelta(days=config.card_days or CARD_DAYS)
        masks: dict[str, Any] = {"roster": self._roster} if self._roster else {}
        if self.helper is not None:
            masks["helper"] = _named(self.helper.named)
        return CardTerms(
            serial=time.time_ns() // 1000,
            expires=expires.strftime(TIME),
            fingerprint=self.setup.spec.fingerprint,
            minimum_cohort=self._minimum_cohort(),
            nodes=len(self.directory.nodes),
            receipts=self.directory.keys is not None,
            **masks,
        )

    def _minimum_cohort(self) -> int:
        """Return how many users the smallest sum that is opened has: expected; at least, where the sum is secure."""
        plan, config = self.setup.plan, self.scenario.federation
        if self._masks and plan.discrete is not None:
            return plan.discrete.shares.least
        share = plan.config.asked / (plan.config.separation or 1)
        return self.directory.minimum_cohort(config.min_nodes, share)

    @property
    def _masks(self) -> bool:
        return self.scenario.privacy.private and self.scenario.privacy.trust == "distributed"

    @property
    def _roster(self) -> str:
        """Root (hex) over the nodes' keys for masks; "" in a run without masks."""
        return Roster(self.directory.masks).root.hex() if self._masks else ""

    def publish(self, ledger: Ledger, begin: BeginRecord) -> None:
        """Append the first record, and wait for a witness of it where the scenario names some.

        Raises: InputError when none cosigned in time, or the run began without a run card, or with another one.
        """
        super().publish(ledger, begin)
        asking = LedgerQuestions(ledger, self.folder.receipts, len(self.directory.nodes), self.directory.keys)
        asking.check(self.setup.spec.fingerprint, self._roster)
        self.nodes.cosign(asking)
        config = self.scenario.federation
        witnesses = [public_key(each) for each in config.witnesses or ()]
        every = [] if self.helper is None else [self.helper.named.key]
        if not asking.cosigned(witnesses, every) and witnesses:
            ledger.seal()
            log.info("waiting for a witness to cosign the run card: fedrec audit witness %s", self.folder.path)
            until = self.messenger.clock() + config.patience
            while not asking.cosigned(witnesses, every):
                if self.messenger.clock() >= until:
                    raise InputError(
                        f"{self.folder.path}: no witness of federation.witnesses has cosigned the run card in time; "
                        "nothing was charged: have one do it (`fedrec audit witness`), and continue with --resume"
                    )
                self.messenger.wait()
        self.nodes.ledger = asking

    def federation(self) -> AbstractContextManager[Federation]:
        return nullcontext(self.nodes)

    def on_round(self, report: RoundReport) -> None:
        if self._on_round is not None:
            self._on_round(report)

    def observe(self, round_index: int, shared: Shared) -> dict[str, float]:
        algorithm = self.setup.algorithm
        return private_figures(algorithm, round_index, shared) | clip_figures(algorithm, shared)

    def results(self, outcome: Outcome, model: ReleasedModel) -> dict[str, Any]:
        """Return private metrics, where they were paid for, and counts of the nodes' replies."""
        algorithm = self.setup.algorithm
        return {
            "dataset": {
                "name": self.scenario.data.name,
                "users": self.setup.plan.users,
                "items": len(algorithm.facts.catalogue),
            },
            "metrics": {},
            "baselines": {},
            "evaluation": {"private": private_report(algorithm, outcome.shared)},
            "nodes": {
                "count": len(self.directory.nodes),
                "absences": self.nodes.absences,
                "not_used": {why: count for why, count in sorted(self.messenger.counts.items()) if count},
                "bytes_sent": self.messenger.sent,
                "bytes_received": self.messenger.received,
            },
        }
