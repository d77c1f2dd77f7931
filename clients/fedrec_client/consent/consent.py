"""Consent: the one place where a node decides on a question: policy, then ledger, then the rule of answers."""

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np

from fedrec_client.consent.answering import Answer, Asked, Reason, Verdict, WithoutEvents
from fedrec_client.consent.device_ledger import DeviceLedger
from fedrec_client.consent.objections import objections
from fedrec_client.consent.policy import BOUNDS, Policy
from fedrec_client.consent.terms import RunTerms

NONE: Mapping[int, WithoutEvents] = MappingProxyType({})


class Consent:
    """Decides for all users of a node.

    Args:
        policy: the node's; `BOUNDS` where run and data are one person's.
        ledger: where charges go; None where run and data are one person's, or all data are public.
        computes: trust models whose messages the node makes. A card of another one promises what the node does not do:
            under `distributed`, say, that sums are masked before they leave.
    """

    def __init__(
        self,
        policy: Policy = BOUNDS,
        ledger: DeviceLedger | None = None,
        computes: Collection[str] = ("central",),
    ) -> None:
        self.policy, self.ledger, self.computes = policy, ledger, computes
        self._judged: dict[tuple[str, int, bool], str] = {}

    def refusal(self, terms: RunTerms, asked: Asked) -> str:
        """Return why the policy refuses the run, and write it down; "" where it does not. Nothing is charged."""
        fault = self._fault(terms, asked)
        if fault and self.ledger is not None:
            self.ledger.refused(terms.run, fault)
        return fault

    def decide(self, terms: RunTerms, asked: Asked) -> Verdict:
        """Decide on a question. What is to be given is charged, on disk, when this returns."""
        if fault := self.refusal(terms, asked):
            nobody = np.zeros(len(asked.cohort), dtype=bool)
            return Verdict(Answer.REFUSE, nobody, {Reason.TERMS: len(asked.cohort)}, fault)
        if self.ledger is None:
            return Verdict(Answer.GIVE, np.ones(len(asked.cohort), dtype=bool), {})
        return self.ledger.charge(terms, asked)

    def released(
        self, terms: RunTerms, asked: Asked, verdict: Verdict, without: Mapping[int, WithoutEvents] = NONE
    ) -> None:
        """Write down that the answer leaves, and what it is.

        Args:
            terms: of the run.
            asked: the question.
            verdict: what `decide` returned.
            without: position of a user -> why its answer is that of a person without events.
        """
        if self.ledger is None or verdict.answer is not Answer.GIVE:
            return
        given = asked.cohort[verdict.give].tolist()
        if not given:
            why = ", ".join(reason.value for reason in verdict.reasons)
            self._became(terms, asked, "zero", WithoutEvents(why))
        elif all(place in without for place in given):
            self._became(terms, asked, "empty", without[given[0]])
        else:
            self._became(terms, asked, "released", None)

    def _became(self, terms: RunTerms, asked: Asked, what: str, because: WithoutEvents | None) -> None:
        assert self.ledger is not None
        self.ledger.outcome(terms.run, asked.round_index, asked.question, what, because)

    def _fault(self, terms: RunTerms, asked: Asked) -> str:
        """Why the run is refused, judged once a run and number of users; its expiry is the ledger's to look at."""
        users = len(asked.identities) if asked.hosted is None else asked.hosted
        key = terms.run, users, asked.public
        if key not in self._judged:
            open_to_all = asked.public or self.ledger is None
            found = objections(self.policy, terms, users=users, public=open_to_all, now=time.time())
            if terms.private and terms.trust not in self.computes:
                found.append(
                    f"trust model '{terms.trust}': this node makes messages of {', '.join(self.computes)} alone"
                )
            self._judged = {key: "; ".join(found)}
        return self._judged[key]
