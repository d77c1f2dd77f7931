"""The start of a run at the release of another one, as its first record has it."""

from typing import Literal

from pydantic import model_validator

from fedrec.record_parts import ClosedPart, Count, Delta, Epsilon, Hash, Lines, Text


class Start(ClosedPart):
    """The other run, and what it promised to its own people.

    Epsilon and delta of two runs on the same people add up; `both_epsilon` is the sum, which needs no assumption on how
    the later run's parameters were chosen.
    """

    model: Hash
    """SHA-256 of the other run's model file"""
    ledger: Hash
    """Head of its ledger, which fixes its statement"""
    dataset: Text
    users: Count
    items: Count
    """Items of this run that start at its vectors"""
    people: Literal["public", "other", "same"]
    """Declared public, private and not those of this run, or private and those of this run"""
    epsilon: Epsilon | None
    """What the other run promised at most, with what it started from where that was of the same people"""
    delta: Delta | None
    before: Lines = []
    """Datasets of the runs that the other run itself started from, and the kind of their people"""
    seeded: bool
    """Whether the other run's noise follows from a seed"""
    both_epsilon: Epsilon | None = None
    """Of both runs for one person, where the people are the same"""
    both_delta: Delta | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Start":
        if (self.people == "public") != (self.epsilon is None) or (self.epsilon is None) != (self.delta is None):
            raise ValueError("a start has an epsilon and a delta, and people that were declared public have neither")
        return self

    @property
    def chain(self) -> list[str]:
        """The datasets of a run that starts from one with this start, and the kind of their people."""
        return [f"{self.dataset} ({self.people})", *self.before]

    def added(self, epsilon: str | None, delta: str | None) -> tuple[float, float] | None:
        """Return epsilon and delta of both runs for one person; None where no bound holds for both.

        Args:
            epsilon: target of the later run.
            delta: of the later run.
        """
        if self.epsilon is None or self.delta is None or epsilon is None or delta is None:
            return None
        return float(self.epsilon) + float(epsilon), float(self.delta) + float(delta)

    def covers(self, epsilon: str | None, delta: str | None) -> bool:
        """Return whether the recorded sum is at least that with a later run of these targets, where one holds.

        Args:
            epsilon: target of the later run; None without privacy.
            delta: of the later run.
        """
        both = self.added(epsilon, delta)
        if self.people != "same" or both is None:
            return self.both_epsilon is None and self.both_delta is None
        return float(self.both_epsilon or 0) >= both[0] and float(self.both_delta or 0) >= both[1]

    def lines(self) -> list[str]:
        """Return what a statement says of it, a sentence each."""
        chain = f", which itself started from {'; '.join(self.before)}" if self.before else ""
        named = (
            f"the model {self.model} of a run on '{self.dataset}' ({self.users:,} users, ledger {self.ledger}){chain}"
        )
        if self.people == "public":
            return [
                f"the run started from {named}, which promises its people nothing: the operator declared that log "
                "public, and nothing here can check it"
            ]
        promised = f"epsilon {self.epsilon} at delta {self.delta}"
        seed = "; the noise of that run follows from its seed" if self.seeded else ""
        if self.people == "other":
            return [
                f"the run started from {named}. What it reveals of that run's people is bounded by {promised}, their "
                f"own and not this run's{seed}. That nobody is in both is the operator's word; for such a person both "
                "budgets add up"
            ]
        if self.both_epsilon is None:
            return [f"the run started from {named}, of the same people, and no epsilon holds for both runs together"]
        return [
            f"the run started from {named}, of the same people ({promised}{seed}). Both runs together cost each of "
            f"them up to epsilon {self.both_epsilon} at delta {self.both_delta}; the epsilon of this statement is that "
            "of this run alone"
        ]
