"""A node, without Flower: it hosts users, one or many, and answers for them.

Each user's whole contribution to a query is clipped HERE, by the code that a simulation runs, and one sum over the
cohort leaves. What does not leave: histories, user vectors, un-noised metrics, and the texts of errors, which may quote
data; the server gets one word of `REFUSALS`. In trust model `central` the server is trusted with the sums. In `local`
the node adds each user's whole noise before they leave, in `distributed` each user's share of it (`users_noise`). With
hidden participation it draws each user's secret coin (`coins`).

Each question takes one way: the run card and its charge are checked (`run_gate`), the run's public terms meet the
policy, the device ledger is charged and synced (`consent`), the sums are computed, and the answer leaves. A user whose
data may not enter contributes zero.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from fedrec import wire
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.plugins import PluginRefused, only
from fedrec.privacy.discrete.stream import WordStream
from fedrec.run import masked
from fedrec.wire import Packet, WireError
from fedrec_client.consent.answering import Answer
from fedrec_client.consent.consent import Asked, Consent
from fedrec_client.consent.policy import Policy
from fedrec_client.hosted_data import Find, Hosted
from fedrec_client.node_config import ConfigError
from fedrec_client.prepared_run import Prepare, PreparedRun, Words
from fedrec_client.run_gate import Admitted, HeadUnknown, RunGate
from fedrec_client.secure_question import asked_of, secure_question

log = logging.getLogger("fedrec.node")


MOST_HELD = 64 << 20
"""Bytes of the last answer that are kept for the same question: a reply can be lost. A larger one is charged again."""

COMPUTED = ("central", "distributed", "local")
"""Trust models whose messages a node makes: those of the run's description, which its card must promise, too."""


class UserNode:
    """Answers for the users that `find` finds. bounds: those of `HostedUsers`, the device among them.

    prepare: makes what computes a run; by default the code of a simulation, with torch (`torch_run`).

    plugins: names of installed plug-ins that runs may name here. By default none is: the node runs built-in code alone.
    None for all that are installed, which is for a simulation's virtual nodes.
    gate: checks each question's run card and charge, and signs receipts. None where all sides are one person's.
    words: makes the secret words of the users' noise, which a node with a gate adds. Without a gate the one person who
    runs all sides adds it once, on the total.
    consent: decides on every question by the policy, and charges it. Where left out, bounds on the computation alone.
    held: the shared tensors that it keeps by name, with their digests, so that only what changed must be sent. The
    owner of the process may take them along to the next one, and may lose them.
    """

    def __init__(
        self,
        find: Find,
        *,
        plugins: Iterable[str] | None = (),
        gate: RunGate | None = None,
        consent: Consent | None = None,
        words: Words = WordStream.fresh,
        prepare: Prepare | None = None,
        **bounds: Any,
    ) -> None:
        self._find, self._gate = find, gate
        self._prepare = with_torch(words, bounds) if prepare is None else prepare
        self._consent = Consent(computes=COMPUTED) if consent is None else consent
        self._plugins = None if plugins is None else frozenset(plugins)
        self.held: dict[str, tuple[str, Any]] = {}
        self._run: tuple[str, PreparedRun] | None = None
        self._given: tuple[str, dict[str, Any]] | None = None

    def answer(self, packet: Packet) -> Packet:
        """Answer one message. It never raises, and never sends an error's text."""
        try:
            with nullcontext() if self._plugins is None else only(self._plugins):
                if packet.kind == exchange.HELLO:
                    return self._presence(packet.expect(exchange.HELLO))
                if packet.kind == masked.HELPED:
                    return self._helped(packet.expect(masked.HELPED))
                if packet.kind in masked.STAGES:
                    return self._stage(packet.expect(packet.kind))
                return self._sums(packet.expect(exchange.SUM))
        except WireError as error:
            log.warning("refused a message: %s", error)
            return exchange.refusal(error.code, packet, error.seen if isinstance(error, HeadUnknown) else None)
        except Exception as error:
            # The text of an exception may quote data, so neither it nor the traceback's values are written anywhere.
            log.error("could not answer: %s at %s", type(error).__name__, _where(error))
            return exchange.refusal("error", packet)

    def _presence(self, packet: Packet) -> Packet:
        hosted = self._hosted(packet.fact("data", str))
        facts: dict[str, wire.Fact] = {
            "users": len(hosted.source),
            "place": hosted.place,
            "catalogue": hosted.catalogue.digest,
        }
        if self._gate is not None and packet.facts.get(exchange.MASKS_KEY) is True:
            facts |= self._gate.masks_presence()
        return Packet(exchange.PRESENCE, facts=facts)

    def _sums(self, packet: Packet) -> Packet:
        admitted, run = self._admitted(packet)
        if admitted is not None and run.spec.trust == "distributed":
            raise WireError("terms", "a plain sum in a run of trust model distributed, whose sums are masked")
        sums = self._given_sums(packet, admitted, run)
        signed = {} if self._gate is None or admitted is None else self._gate.receipt(admitted, sums)
        facts: dict[str, wire.Fact] = {exchange.NOISED: self._gate is not None} if run.noised else {}
        octets = run.octets(packet.round)
        return Packet(exchange.SUMS, packet.fingerprint, packet.round, facts | signed, sums, octets=octets)

    def _stage(self, packet: Packet) -> Packet:
        """Answer a question of a secure sum (`fedrec.run.masked`)."""
        masks = None if self._gate is None else self._gate.masks
        if self._gate is None or masks is None:
            raise WireError("stage", "a node without a key takes part in no secure sum")
        if not self._gate.kept:
            raise WireError("stock", "a node that was started with --stock takes part in no secure sum among nodes")
        if packet.kind not in (masked.ADVERTISE, masked.MASKED):
            return masks.answer(packet)
        admitted, run = self._secure(packet, helped=False)
        cohort = exchange.cohort_of(packet, run.users)
        asked = asked_of(admitted, run, masked.counts_of(packet), masked.ahead_of(packet))
        layout, shares = run.layout(packet.round), run.shares
        if packet.kind == masked.MASKED:
            masks.begin(asked, layout, len(cohort), shares)
            sums = self._given_sums(packet, admitted, run)
            vector = masked.octets(masks.masked(sums, masked.content(packet)))
            signed = self._gate.receipt(admitted, {masked.MESSAGE: vector})
            facts = {**signed, **masks.keys_ahead()}
            return Packet(masked.MASKS, packet.fingerprint, packet.round, facts, {masked.MESSAGE: vector})
        asked, roster, cohort = secure_question(packet, admitted, run, self._gate, self._consent)
        message = masks.advertise(asked, roster, layout, len(cohort), shares)
        held = json.dumps({name: digest for name, (digest, _) in self.held.items()})
        return masked.answer(packet, message, {masked.HELD: held})

    def _helped(self, packet: Packet) -> Packet:
        """Answer the one question of a secure sum whose masks a helper keeps (`fedrec_client.helped`)."""
        gate = self._gate
        if gate is None or gate.helped is None:
            raise WireError("stage", "a node without a key takes part in no secure sum")
        admitted, run = self._secure(packet, helped=True)
        asked, roster, cohort = secure_question(packet, admitted, run, gate, self._consent)
        begun = gate.helped.begin(admitted.card, asked, roster, run.layout(packet.round), len(cohort), run.shares)
        vector = masked.octets(begun.masked(self._given_sums(packet, admitted, run)))
        signed = gate.receipt(admitted, {masked.MESSAGE: vector})
        return Packet(masked.MASKS, packet.fingerprint, packet.round, signed, {masked.MESSAGE: vector})

    def _secure(self, packet: Packet, *, helped: bool) -> tuple[Admitted, PreparedRun]:
        """Return an admitted question of a secure sum. helped: whether a helper must keep the masks."""
        admitted, run = self._admitted(packet)
        if admitted is None or not run.noised or run.spec.trust != "distributed":
            raise WireError("terms", "a secure sum in a run of another trust model")
        if (admitted.card.helper is not None) != helped:
            raise WireError("terms", "the run card names another aggregator than the question's")
        return admitted, run

    def _admitted(self, packet: Packet) -> tuple[Admitted | None, PreparedRun]:
        """Return the question as the gate admits it, and its run; the run's terms are those of the card."""
        admitted = None if self._gate is None else self._gate.admit(packet)
        run = self._prepared(packet)
        if not 0 <= packet.round < run.rounds:
            raise WireError("request", f"round {packet.round} of a run of {run.rounds} rounds")
        if self._gate is not None and admitted is not None:
            self._gate.check_terms(admitted, run.spec, run.queries(packet.round))
            if run.noised and (fault := run.take_card(admitted.card, packet.round)):
                raise WireError("terms", f"round {packet.round}, {fault}")
        return admitted, run

    def _given_sums(self, packet: Packet, admitted: Admitted | None, run: PreparedRun) -> dict[str, Any]:
        """Return the sums that a question gets, charged before."""
        shared = self._shared(packet)
        if fault := run.fault(shared, packet.round):
            raise WireError("terms", f"round {packet.round}: {fault}")
        cohort = exchange.cohort_of(packet, run.users)
        if self._gate is not None and admitted is not None:
            self._gate.check_cohort(admitted, cohort, run.users)
        return self._consented_sums(packet, run, admitted, shared, cohort)

    def _consented_sums(
        self, packet: Packet, run: PreparedRun, admitted: Admitted | None, shared: dict[str, Any], cohort: np.ndarray
    ) -> dict[str, Any]:
        """Return the sums over those of the cohort whose data may enter; what they cost is charged before."""
        if self._gate is not None and admitted is not None:
            terms, question = self._gate.terms(admitted, public=run.public), admitted.whole
        else:
            terms, question = run.described_terms(), _question(packet, cohort)
        held = self._given if self._given is not None and self._given[0] == question else None
        asked = Asked(packet.round, question, run.identities, cohort, run.public, held is not None)
        verdict = self._consent.decide(terms, asked)
        if held is not None and verdict.answer is Answer.REPEAT:
            return held[1]
        if verdict.answer is Answer.REFUSE:
            raise WireError("terms", verdict.text)
        if verdict.reasons:
            left_out = ", ".join(f"{users} ({reason.value})" for reason, users in verdict.reasons.items())
            log.warning("round %d: users who contribute zero: %s", packet.round, left_out)
        sums = run.sums(shared, packet.round, cohort, verdict.give, noise=self._gate is not None)
        small = sum(total.nbytes for total in sums.values()) <= MOST_HELD
        self._given = (question, sums) if small else None
        self._consent.released(terms, asked, verdict, run.without)
        return sums

    def _hosted(self, text: str) -> Hosted:
        try:
            return self._find(text)
        except PluginRefused as error:
            raise WireError("plugin", str(error)) from None
        except ConfigError as error:
            raise WireError("data", str(error)) from None
        except InputError:  # whose text may quote the data
            raise WireError("data", "cannot use the data; `fedrec data describe` on this machine says why") from None

    def _prepared(self, packet: Packet) -> PreparedRun:
        """Return what is made of the run's description, once for all its rounds."""
        text = packet.fact("spec", str)
        if wire.fingerprint(text) != packet.fingerprint:
            raise WireError("fingerprint", exchange.REFUSALS["fingerprint"])
        if self._run is None or self._run[0] != packet.fingerprint:
            self._run = packet.fingerprint, self._prepare(text, self._hosted, self._consent.policy)
        return self._run[1]

    def _shared(self, packet: Packet) -> dict[str, Any]:
        digests, sent = exchange.shared_of(packet)
        held = {name: (digest, sent[name]) for name, digest in digests.items() if name in sent}
        for name, digest in digests.items():
            if name in held:
                continue
            kept = self.held.get(name)
            if kept is None or kept[0] != digest:
                raise WireError("missing", exchange.REFUSALS["missing"])
            held[name] = kept
        self.held = held
        return {name: tensor for name, (_, tensor) in held.items()}


def with_torch(words: Words, bounds: Mapping[str, Any]) -> Prepare:
    """Return what prepares runs with torch, which is imported for the first of them."""

    def prepare(text: str, find: Find, policy: Policy) -> PreparedRun:
        from fedrec_client.torch_run import prepared

        return prepared(text, find, policy, words, bounds)

    return prepare


def _question(packet: Packet, cohort: np.ndarray) -> str:
    """Return a digest of all that decides the answer: the run, the round, the shared tensors and the cohort."""
    digests, _ = exchange.shared_of(packet)
    public = json.dumps([packet.fingerprint, packet.round, sorted(digests.items())])
    return hashlib.sha256(public.encode() + cohort.astype("<i8").tobytes()).hexdigest()


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
