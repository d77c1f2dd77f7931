"""A run's description as a device without torch and pydantic reads it; see `fedrec.federation.spec.RunSpec`.

A description with settings that this form does not know is refused, before anything is charged.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedrec.ondevice.cleaning import Cleaning
from fedrec.wire import WireError


@dataclass(frozen=True)
class DeviceNoise:
    """Settings of the noise that users add, see `fedrec.federation.spec.UsersNoise`."""

    trust: str
    sampling: float
    hidden: bool
    by_aggregators: bool
    dropout: float
    colluding: float


@dataclass(frozen=True)
class Wanted:
    """What a run says of the events that it learns from.

    Attributes:
        min_rating: least rating of an event that counts; None for any.
        most_events: newest events that count; None for all.
        cleaning: rules for the events; None for none.
        stars: whether a sum takes ratings of items.
    """

    min_rating: float | None = None
    most_events: int | None = None
    cleaning: Cleaning | None = None
    stars: bool = False


@dataclass(frozen=True)
class DeviceSpec:
    """The public description of a run.

    Attributes:
        algorithm: its name.
        settings: its own settings.
        data: text of the data that the run is about.
        wanted: what of the events counts.
        catalogue: digest of the catalogue.
        users: size of the population.
        expected_cohort: fixed denominator of every average.
        mu: total signal-to-noise of all releases; infinite without privacy, and then nothing is clipped.
        seed: public randomness.
        noise: of the users; None where the server adds it.
        capped: whether rows of a part are capped, which only the process with torch computes.
        plain: whether clips are fixed and no round evaluates, so that the algorithm's own sums are all.
    """

    algorithm: str
    settings: Mapping[str, Any]
    data: str
    wanted: Wanted
    catalogue: str
    users: int
    expected_cohort: float
    mu: float
    seed: int
    noise: DeviceNoise | None
    plain: bool
    capped: bool = False

    @property
    def private(self) -> bool:
        """Whether contributions are clipped."""
        return math.isfinite(self.mu)

    @property
    def trust(self) -> str:
        """The trust model: "none" without privacy."""
        if not self.private:
            return "none"
        return "central" if self.noise is None else self.noise.trust


def parse(text: str) -> DeviceSpec:
    """Parse a text of `RunSpec.text`. Raises: WireError `request` for anything else."""
    try:
        values = json.loads(text)
        mu = values["mu"]
        return DeviceSpec(
            algorithm=_is(values["algorithm"], str),
            settings=_is(values["settings"], dict),
            data=_is(values["data"], str),
            wanted=replace(_wanted(values["data"]), stars=values["settings"].get("stars") is not None),
            catalogue=_is(values["catalogue"], str),
            users=_whole(values["users"]),
            expected_cohort=_number(values["expected_cohort"]),
            mu=math.inf if mu is None else _number(mu),
            seed=_is(values["seed"], int),
            noise=_noise(values.get("noise")),
            plain=values.get("clipping") is None and not values["evaluation_share"],
            capped=values.get("row_cap") is not None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WireError("request", "the run's description is not one that this device reads") from None


def _noise(values: Any) -> DeviceNoise | None:
    if values is None:
        return None
    known = {"trust", "epsilon", "delta", "sampling", "participation", "dropout", "colluding", "bits", "noise_by"}
    local = values["trust"] == "local"
    if set(values) - known or values["trust"] not in ("local", "distributed"):
        raise ValueError("another noise")
    if values.get("participation") not in (None, "hidden"):
        raise ValueError("another participation")
    if values.get("noise_by") not in (None, "aggregators"):
        raise ValueError("another source of noise")
    parts = [values.get(name) for name in ("dropout", "colluding")]
    dropout, colluding = (0.0 if local and part is None else _number(part, least=0.0) for part in parts)
    hidden = values.get("participation") == "hidden"
    aggregators = values.get("noise_by") == "aggregators"
    return DeviceNoise(values["trust"], _number(values["sampling"], most=1.0), hidden, aggregators, dropout, colluding)


def _wanted(text: str) -> Wanted:
    """Return what of the events counts; a run over another dataset's shard says nothing that a store could use."""
    if not text:
        return Wanted()
    data = json.loads(text)["data"]
    rules = Cleaning.of(data["cleaning"]) if "cleaning" in data else None
    least, most = data.get("min_rating"), (data.get("balance") or {}).get("most_events")
    least = None if least is None else _number(least, least=-math.inf)
    return Wanted(least, None if most is None else _whole(most), rules)


def _is(value: Any, kind: type[Any]) -> Any:
    if type(value) is not kind:
        raise ValueError("a value of another type")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("no whole number above 0")
    return value


def _number(value: Any, least: float = 0.0, most: float = math.inf) -> float:
    if type(value) not in (int, float) or not least <= value <= most or not math.isfinite(value):
        raise ValueError("no number in range")
    return float(value)
