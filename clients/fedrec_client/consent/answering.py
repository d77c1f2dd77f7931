"""What a question is answered with: a refusal may depend on public terms alone, never on data or private state.

| what is wrong | depends on | answer | charged |
|---|---|---|---|
| off the policy, off the card, another round, a run that has expired | public terms | refusal | no |
| asked too often | public questions | refusal | no |
| the same question of a carded run again | public questions | the answer that was given, if it is still held | no |
| the same question otherwise | public questions | a new answer | yes |
| a user is asked too few rounds after its last participation in a stream | public questions | zero | yes |
| too few users of this node in a central sum | the server's own cohort | zero | yes |
| a user's budget of the run or the period is exhausted | past participation | zero | no: it is spent already |
| the ledger was restored from a backup, or lost | private state | zero | no: the period is spent in full |
| opted out | private state | zero | yes |
| no event of an allowed age, no event at all | data | zero | yes |
| nothing | | the contribution | yes |

A zero contribution enters the sum as a user without events would. Where the answer given is that of a person without
events, the device's ledger has the reason (`WithoutEvents`); a server sees no difference. Refusals name one word of the
protocol.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np


class Reason(Enum):
    """Why a user's contribution is not given."""

    TERMS = "terms"
    EXPIRED = "expired"
    ASKED_TOO_OFTEN = "asked too often"
    SAME_QUESTION = "same question"
    TOO_EARLY = "too early"
    SMALL_SUM = "small sum"
    EXHAUSTED = "exhausted"
    RESTORED = "restored"
    OPTED_OUT = "opted out"
    NO_DATA = "no data"


class Answer(Enum):
    """What a server gets."""

    REFUSE = "refuse"
    REPEAT = "repeat"
    ZERO = "zero"
    GIVE = "give"


@dataclass(frozen=True)
class Rule:
    """One row of the table: what the decision rests on, what is answered, and whether it is charged."""

    public: bool
    answer: Answer
    charged: bool


RULES: dict[Reason | None, Rule] = {
    Reason.TERMS: Rule(True, Answer.REFUSE, False),
    Reason.EXPIRED: Rule(True, Answer.REFUSE, False),
    Reason.ASKED_TOO_OFTEN: Rule(True, Answer.REFUSE, False),
    Reason.SAME_QUESTION: Rule(True, Answer.REPEAT, False),
    Reason.TOO_EARLY: Rule(True, Answer.ZERO, True),
    Reason.SMALL_SUM: Rule(True, Answer.ZERO, True),
    Reason.EXHAUSTED: Rule(False, Answer.ZERO, False),
    Reason.RESTORED: Rule(False, Answer.ZERO, False),
    Reason.OPTED_OUT: Rule(False, Answer.ZERO, True),
    Reason.NO_DATA: Rule(False, Answer.ZERO, True),
    None: Rule(True, Answer.GIVE, True),
}
"""Reason -> its rule; None: nothing stands against the contribution."""


@dataclass(frozen=True)
class Asked:
    """One question for sums.

    Attributes:
        round_index: from 0.
        question: digest of everything that decides the answer, hex.
        identities: (users,) int64: the hosted users, by numbers that stay theirs.
        cohort: (C,) int64, ascending: positions of the users in the question.
        public: whether their data are a public dataset.
        held: whether the node still has the answer that it gave to this very question.
        hosted: users of the whole node, for a question to one device of a hub; None for those of `identities`.
        summed: users of the sum that leaves, likewise; None for those of the cohort.
    """

    round_index: int
    question: str
    identities: np.ndarray
    cohort: np.ndarray
    public: bool
    held: bool = False
    hosted: int | None = None
    summed: int | None = None


@dataclass(frozen=True)
class WithoutEvents:
    """Why a user's answer is that of a person without events, for the device's own ledger.

    Attributes:
        why: `no event` that counts in the run, or the cause of a trust period (`participation.store_mark`).
        since: Unix seconds from which the trust period counts; None outside of one.
        until: Unix seconds of its end; None outside of one.
    """

    why: str
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Verdict:
    """The answer to one question.

    Attributes:
        answer: GIVE also where single users, or all, are left out of the sum, so that a server cannot tell.
        give: (cohort,) bool: whose data enter the sum. The others contribute zero.
        reasons: for the node's own log: how many users were left out, by reason.
        text: of a refusal, for the node's own log.
        each: the verdict of each asked device of a hub; empty elsewhere.
    """

    answer: Answer
    give: np.ndarray
    reasons: dict[Reason, int]
    text: str = ""
    each: "tuple[Verdict, ...]" = ()
