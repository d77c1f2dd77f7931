"""What a node reads of a run's description, whichever code parsed it: `fedrec.federation.spec`, or a device's own."""

from typing import Protocol


class AskedSum(Protocol):
    """A sum that a round asks for, as `fedrec.privacy.queries.SumQuery`."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def factors(self) -> tuple[float, float] | None: ...
    @property
    def bits(self) -> int: ...


class DescribedNoise(Protocol):
    """The settings of noise that users add, as `fedrec.federation.spec.UsersNoise`."""

    @property
    def dropout(self) -> float | None: ...
    @property
    def colluding(self) -> float | None: ...


class DescribedRun(Protocol):
    """A run, as `fedrec.federation.spec.RunSpec`."""

    @property
    def algorithm(self) -> str: ...
    @property
    def users(self) -> int: ...
    @property
    def expected_cohort(self) -> float: ...
    @property
    def private(self) -> bool: ...
    @property
    def trust(self) -> str: ...
    @property
    def noise(self) -> DescribedNoise | None: ...
