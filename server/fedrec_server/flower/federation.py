"""The federation of a deployment: users behind nodes, queried over Flower's Grid.

Each node clips its users' contributions and sends one sum for each query. The server checks the sums and adds them in
the order of the nodes, so that the order of arrival changes no bit. The coordinator adds the noise once, on the total.
An absent node adds nothing. Denominators are fixed, so the guarantee holds, and only quality suffers.

The server queries every node in every round, with a message of the same size, also a node without a user in the cohort.
The number of messages and their bytes therefore do not show who takes part. A node's computing time does.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedrec import wire
from fedrec.algorithms.base import Algorithm, Shared
from fedrec.errors import PrivacyError
from fedrec.federation import exchange
from fedrec.federation.data_request import parse_data
from fedrec.federation.hosted import add_up
from fedrec.federation.spec import RunSpec
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import SumQuery
from fedrec.run.federation import FederationConfig
from fedrec.wire import WireError
from fedrec_server.flower.helped_sums import HelpedSums
from fedrec_server.flower.ledger_questions import LedgerQuestions
from fedrec_server.flower.masked_sums import MaskedSums
from fedrec_server.flower.messenger import Messenger, TooFewNodes, log
from fedrec_server.flower.nodes import NodeDirectory
from fedrec_server.flower.reply_checks import Expected, checked_sums
from fedrec_server.flower.secure_questions import SecureRun
from fedrec_server.helper.link import HelperAccess

TRIES = 3
"""Most queries to a failing node in one round."""


class FlowerFederation:
    """The users of the nodes in a directory.

    Args:
        messenger: the messenger that reaches the nodes.
        directory: the nodes of the run.
        plan: the run's plan, whose clips the nodes apply.
        spec: the run's description, which the nodes receive.
        config: deadlines and the minimum of nodes.
        device: device on which the sums are added.
        helper: keeps the masks of secure sums; None where the nodes keep them.

    Attributes:
        ledger: the run's ledger, which each question proves; None where all sides are one person's.
    """

    def __init__(
        self,
        messenger: Messenger,
        directory: NodeDirectory,
        plan: PrivacyPlan,
        spec: RunSpec,
        config: FederationConfig | None = None,
        device: torch.device | str = "cpu",
        helper: HelperAccess | None = None,
    ) -> None:
        self.messenger, self.directory, self.plan, self.spec = messenger, directory, plan, spec
        self.config = config or FederationConfig()
        self.device = torch.device(device)
        self.timings: Mapping[str, float] = {}
        self.absences = 0
        self.ledger: LedgerQuestions | None = None
        self._refused = ""
        self._text, self._fingerprint, self._request = spec.text(), spec.fingerprint, parse_data(spec.data)
        self._holds: dict[int, dict[str, str]] = {}
        self._masked: MaskedSums | HelpedSums | None = None
        if plan.discrete is not None and directory.masks:
            secure = SecureRun(messenger, directory, spec, plan.discrete, self.config, self._request)
            self._masked = MaskedSums(secure) if helper is None else HelpedSums(secure, helper)

    def cosign(self, ledger: LedgerQuestions) -> None:
        """Have the helper cosign the run card, in a run that has one. Raises: HelperAway; HelperRefused."""
        if isinstance(self._masked, HelpedSums):
            self._masked.cosigned(ledger, self.messenger.clock() + self.config.patience)

    @property
    def users(self) -> int:
        """Size of the population."""
        return self.directory.users

    @property
    def _secret_coins(self) -> bool:
        """Whether the nodes draw their users' coins; in a simulation the plan draws them, as a cohort."""
        return self.plan.config.hidden and self.ledger is not None

    def clipped_sums(
        self, algorithm: Algorithm, shared: Shared, round_index: int, cohort: np.ndarray
    ) -> dict[str, Tensor]:
        """Return, for each query of the round, the sum of the nodes' clipped sums, without noise; see `Federation`.

        Raises: PrivacyError when the cohort is not ascending; TooFewNodes when fewer than the minimum have answered
        after all patience.
        """
        if np.any(np.diff(cohort) <= 0):
            raise PrivacyError(f"round {round_index}: the cohort is not ascending; take each user once, in order")
        began = time.perf_counter()
        queries = algorithm.queries(round_index)
        needed = algorithm.for_devices(shared, round_index)
        if self._secret_coins:
            cohort = np.arange(self.users)  # each device draws its own coin, which no server has
        parts = self.directory.split(cohort)
        if self._masked is not None and self.ledger is not None and queries:
            totals = self._masked_totals(self._masked, self.ledger, needed, round_index, parts)
            self.timings = {"nodes": time.perf_counter() - began}
            return totals
        answers = self._receipted(algorithm, needed, round_index, parts) if queries else {}
        totals = {query.name: self._total(round_index, query, answers) for query in queries}
        if self.plan.discrete is not None and self.ledger is not None and queries:
            self.plan.discrete.noise_arrived(round_index, sum(len(parts[n]) for n in answers))
        self.timings = {"nodes": time.perf_counter() - began}
        return totals

    def _masked_totals(
        self,
        masked: MaskedSums | HelpedSums,
        ledger: LedgerQuestions,
        shared: Shared,
        round_index: int,
        parts: dict[int, np.ndarray],
    ) -> dict[str, Tensor]:
        """Return the totals of a secure sum; the receipts are in the ledger then, also of a void round."""
        digests = {name: wire.digest(tensor) for name, tensor in shared.items()}
        before = masked.absences
        ledger.begin(round_index, self._fingerprint, digests)
        try:
            found = masked.totals(ledger, shared, digests, round_index, parts)
        finally:
            ledger.end()
        self.absences += masked.absences - before
        return {name: total.to(self.device) for name, total in found.items()}

    def _total(self, round_index: int, query: SumQuery, answers: dict[int, dict[str, Tensor]]) -> Tensor:
        """Add up one query's sums, and take them out of the answers: modulo 2^bits where users add the noise."""
        given = [answers[n].pop(query.name) for n in sorted(answers)]
        discrete = self.plan.discrete
        if discrete is None:
            return add_up(given, query.shape, self.device)
        total = add_up(given, discrete.total_shape(round_index, query.name), self.device)
        return total & ((1 << discrete.encoding(round_index, query.name).bits) - 1)

    def _receipted(
        self, algorithm: Algorithm, shared: Shared, round_index: int, parts: dict[int, np.ndarray]
    ) -> dict[int, dict[str, Tensor]]:
        """Return the sums of the nodes that answered; their receipts are in the ledger then, also of a void round."""
        digests = {name: wire.digest(tensor) for name, tensor in shared.items()}
        if self.ledger is None:
            return self._answers(algorithm, shared, round_index, parts, digests)
        self.ledger.begin(round_index, self._fingerprint, digests)
        try:
            return self._answers(algorithm, shared, round_index, parts, digests)
        finally:
            self.ledger.end()

    def _answers(
        self,
        algorithm: Algorithm,
        shared: Shared,
        round_index: int,
        parts: dict[int, np.ndarray],
        digests: dict[str, str],
    ) -> dict[int, dict[str, Tensor]]:
        """Return the sums of the nodes that answered, by the node's index. Failed nodes are queried again."""
        everyone, config = len(self.directory.nodes), self.config
        needed = min(config.min_nodes or everyone, everyone)
        queries, discrete = algorithm.queries(round_index), self.plan.discrete
        encodings = None
        if discrete is not None:
            encodings = {query.name: discrete.encoding(round_index, query.name) for query in queries}
        expected = {
            n: Expected(
                self._fingerprint,
                round_index,
                queries,
                len(part),
                self.spec.private,
                self.spec.users,
                encodings,
                self.ledger is not None,
            )
            for n, part in parts.items()
        }
        answers: dict[int, dict[str, Tensor]] = {}
        self._refused = ""
        tries: dict[int, int] = dict.fromkeys(parts, 0)
        start = self.messenger.clock()
        while True:
            now = self.messenger.clock()
            until = start + (config.deadline if now < start + config.deadline else config.deadline + config.patience)
            there = self.directory.welcome(self.messenger, self._request, self.spec.catalogue, until)
            due = [n for n in parts if n in there and n not in answers and tries[n] < TRIES]
            self._ask(due, shared, digests, parts, expected, until, answers)
            for n in due:
                tries[n] += 1
            enough = len(answers) >= needed
            hopeless = all(n in answers or tries[n] >= TRIES for n in parts)
            late = self.messenger.clock() >= start + config.deadline
            if len(answers) == len(parts) or (enough and (late or hopeless or (needed < everyone and not due))):
                break
            if self.messenger.clock() >= start + config.deadline + config.patience or (hopeless and not enough):
                why = f" (a node refused: {self._refused})" if self._refused else ""
                raise TooFewNodes(
                    f"round {round_index}: {len(answers)} of {len(parts)} nodes answered, at least {needed} of "
                    f"{everyone} are needed{why}; finished rounds are saved: check the nodes and continue with --resume"
                )
            self.messenger.wait()
        absent = len(parts) - len(answers)
        self.absences += absent
        if absent:
            log.warning("round %d: continues without %d of %d nodes", round_index, absent, everyone)
        return answers

    def _ask(
        self,
        due: list[int],
        shared: Shared,
        digests: dict[str, str],
        parts: dict[int, np.ndarray],
        expected: dict[int, Expected],
        until: float,
        answers: dict[int, dict[str, Tensor]],
    ) -> None:
        """Query each node in `due`, and put the sums that pass the checks into `answers`."""
        index = {self.directory.ids[n]: n for n in due}
        questions: dict[int, Any] = {}
        packed: dict[Any, Any] = {}  # the same message for several nodes is packed once
        sampled = self.plan.config.sampling < 1 and not self._secret_coins
        for node, n in index.items():
            held, users = self._holds.get(node, {}), self.directory.nodes[n].users
            sent = {name: tensor for name, tensor in shared.items() if held.get(name) != digests[name]}
            whole = not sampled and len(parts[n]) == users
            proof = None if self.ledger is None else self.ledger.proof(node)
            if not whole or (tuple(sent), proof) not in packed:
                cohort = None if whole else parts[n]
                packet = exchange.ask_sum(
                    self._text, self._fingerprint, expected[n].round, digests, sent, cohort, users, proof
                )
                record = wire.to_record(packet, self.config.download)
                packed |= {(tuple(sent), proof): record} if whole else {}
            questions[node] = packed[tuple(sent), proof] if whole else record
        for node, packet in self.messenger.ask(
            questions, "train", f"round {expected[due[0]].round}" if due else "", until
        ):
            n = index[node]
            try:
                sums = checked_sums(packet, expected[n])
                if self.ledger is not None:
                    self.ledger.answered(node, packet)
                answers[n] = sums
                self._holds[node] = digests
            except WireError as error:
                if packet.kind == exchange.REFUSAL:
                    self._refused = str(error)
                self._holds.pop(node, None)  # it may have lost its tensors; the next message contains all
                if self.ledger is not None:
                    self.ledger.refused(node, packet)
                self.messenger.dropped(error.code, f"round {expected[n].round}", node)
