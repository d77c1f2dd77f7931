"""A hub: one node for many devices, each of which decides and pays by its own policy and ledger.

The hub's process opens the stores, so it sees its devices' events while it computes. The server sees what it sees of
any node: one sum over the hub's users, which a secure sum hides, too.

| who refuses | what follows |
|---|---|
| the hub's own policy | the hub refuses, by public terms |
| the policy or budget of one device | that device contributes zero, and the others do not |
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedrec_client.consent.answering import Answer, Asked, Reason, Verdict, WithoutEvents
from fedrec_client.consent.consent import NONE, Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.policy import Policy
from fedrec_client.consent.terms import RunTerms


class HubConsent(Consent):
    """Decides for the devices of a hub.

    Args:
        hub: the operator's consent, whose ledger holds the hub's own refusals and charges.
        folders: of the devices.
        policies: of the devices.
    """

    def __init__(self, hub: Consent, folders: Sequence[Path], policies: Sequence[Policy]) -> None:
        super().__init__(hub.policy, hub.ledger, hub.computes)
        self._devices = []
        for folder, policy in zip(folders, policies, strict=True):
            ledger = DeviceLedger(folder / FILE, policy)
            ledger.open()
            self._devices.append(Consent(policy, ledger, hub.computes))

    def decide(self, terms: RunTerms, asked: Asked) -> Verdict:
        """Decide for each device. What any of them is to give is charged in its own ledger when this returns."""
        if fault := self.refusal(terms, asked):
            nobody = np.zeros(len(asked.cohort), dtype=bool)
            return Verdict(Answer.REFUSE, nobody, {Reason.TERMS: len(asked.cohort)}, fault)
        verdicts = [self._devices[place].decide(terms, self._one(asked)) for place in asked.cohort.tolist()]
        if verdicts and all(each.answer is Answer.REPEAT for each in verdicts):
            return Verdict(Answer.REPEAT, np.array([each.give[0] for each in verdicts]), {})
        reasons: dict[Reason, int] = {}
        for each in verdicts:
            for reason in each.reasons:
                reasons[reason] = reasons.get(reason, 0) + 1
        give = [each.answer is Answer.GIVE and bool(each.give[0]) for each in verdicts]
        return Verdict(Answer.GIVE, np.array(give, dtype=bool), reasons, each=tuple(verdicts))

    def released(
        self, terms: RunTerms, asked: Asked, verdict: Verdict, without: Mapping[int, WithoutEvents] = NONE
    ) -> None:
        """Write down, in the ledger of each device that was charged, that the answer leaves, and what it is."""
        if verdict.answer is not Answer.GIVE:
            return
        for place, own in zip(asked.cohort.tolist(), verdict.each, strict=True):
            found = {0: without[place]} if place in without else {}
            self._devices[place].released(terms, self._one(asked), own, found)

    @staticmethod
    def _one(asked: Asked) -> Asked:
        """Return the question to one device, whose part leaves in the hub's sum."""
        one = np.zeros(1, dtype=np.int64)
        return replace(asked, identities=one, cohort=one, hosted=len(asked.identities), summed=len(asked.cohort))
