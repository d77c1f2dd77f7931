"""Coordinates of the charts of the page: plain numbers and SVG paths without markup, so nothing needs escaping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedrec.audit.accountant.tradeoff import FALSE_ALARMS, Tradeoff, certainty, envelope, grid
from fedrec.audit.statement.schema import Spending

WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 22.0, 44.0
PRIORS = (0.01, 0.1, 0.5)
MOST_ROWS = 12


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to positions.

    Attributes:
        low: value at the first end.
        high: value at the other end.
        start: position of `low`.
        end: position of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the position of `value`, to a tenth."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wish: int = 5) -> list[Tick]:
        """Return about `wish` round values in the range, each with its position and text."""
        step = _round_step((self.high - self.low) / wish)
        first = math.ceil(self.low / step - 1e-9)
        values = [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [Tick(self.at(value), f"{value:.10g}") for value in values]


@dataclass(frozen=True)
class Spent:
    """Epsilon after a charge, by accountant, as text; None: no bound. charge: its number, from 1."""

    charge: int
    pld: str | None
    rdp: str | None


@dataclass(frozen=True)
class EpsilonChart:
    """Epsilon after each charge, drawn.

    Attributes:
        x_ticks: numbers of charges.
        y_ticks: epsilons.
        main: the accountant that the budget is kept by.
        lines: an SVG path for each accountant that has a bound.
        ends: height of each line's last point.
        cap: height of the cap; None without.
        rows: the same as a table.
    """

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    main: str
    lines: dict[str, str]
    ends: dict[str, float]
    cap: float | None
    rows: list[Spent]


def over_rounds(spent: Sequence[Spent], cap: float | None) -> EpsilonChart | None:
    """Draw epsilon after each charge as two step lines against the cap; None without a bound."""
    main = "pld" if any(row.pld is not None for row in spent) else "rdp"
    points = [row for row in spent if (row.pld if main == "pld" else row.rdp) is not None]
    if not points:
        return None
    values = {
        "rdp": [(row.charge, float(row.rdp)) for row in points if row.rdp is not None],
        "pld": [(row.charge, float(row.pld)) for row in points if row.pld is not None],
    }
    last = points[-1].charge
    highest = max(value for line in values.values() for _, value in line)
    x = Axis(0, last, LEFT, WIDTH - RIGHT)
    y = Axis(0, 1.08 * max(highest, cap or 0) or 1.0, HEIGHT - BOTTOM, TOP)
    every = max(1, math.ceil(len(points) / MOST_ROWS))
    rows = [row for place, row in enumerate(points) if place % every == 0 or row is points[-1]]
    return EpsilonChart(
        x_ticks=[tick for tick in x.ticks() if "." not in tick.text],
        y_ticks=y.ticks(),
        main=main,
        lines={name: _steps(line, x, y) for name, line in values.items() if line},
        ends={"rdp": y.at(float(points[-1].rdp or 0)), "pld": y.at(float(points[-1].pld or 0))},
        cap=None if cap is None else y.at(cap),
        rows=rows,
    )


@dataclass(frozen=True)
class Bar:
    """One query's share of the budget.

    Attributes:
        spending: the spending of the query.
        width: length of the bar, percent of all.
    """

    spending: Spending
    width: float


def shares(budget: Sequence[Spending]) -> list[Bar]:
    """Return each query's share of the budget as a bar from 0 to 100, largest first; empty without noise."""
    bars = [Bar(row, round(100 * float(row.share), 2)) for row in budget if row.share is not None]
    return sorted(bars, key=lambda bar: -bar.width)


@dataclass(frozen=True)
class FalseAlarmRow:
    """The best attack at one rate of false alarms.

    Attributes:
        fpr: rate of false alarms.
        tpr: rate of members that it finds.
        certainty: probability that an accused person took part, for each of `PRIORS`.
        x: place of the point.
        y: its height.
    """

    fpr: float
    tpr: float
    certainty: list[float]
    x: float
    y: float


@dataclass(frozen=True)
class AttackerChart:
    """The best attack, drawn: SVG paths, ticks, and a table."""

    curve: str
    envelope: str
    chance: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    table: list[FalseAlarmRow]
    priors: Sequence[float]


def attacker(best: Tradeoff, epsilon: float, delta: float) -> AttackerChart:
    """Draw the best attack: its curve, the limit by (epsilon, delta) alone, chance, and a table."""
    x = Axis(0, 1, LEFT, WIDTH - RIGHT)
    y = Axis(0, 1, HEIGHT - BOTTOM, TOP)
    curve = [(fpr, best.tpr(fpr)) for fpr in grid()]
    outer = [(fpr, envelope(epsilon, delta, fpr)) for fpr in grid()]
    table = [
        FalseAlarmRow(
            fpr=fpr,
            tpr=best.tpr(fpr),
            certainty=[certainty(best.tpr(fpr), fpr, prior) for prior in PRIORS],
            x=x.at(fpr),
            y=y.at(best.tpr(fpr)),
        )
        for fpr in FALSE_ALARMS
    ]
    return AttackerChart(
        curve=_path([(x.at(a), y.at(b)) for a, b in curve]),
        envelope=_path([(x.at(a), y.at(b)) for a, b in outer]),
        chance=_path([(x.at(0), y.at(0)), (x.at(1), y.at(1))]),
        x_ticks=_percents(x),
        y_ticks=_percents(y),
        table=table,
        priors=PRIORS,
    )


def intervals(lower: Sequence[float], upper: float | None) -> list[tuple[float, float]]:
    """Return the positions (0 to 100) of each lower bound and of the upper one, on one scale from 0.

    Args:
        lower: bounds of attacks.
        upper: the accountant's bound; None for no bound.
    """
    highest = max([upper or 0.0, *lower], default=0.0) or 1.0
    axis = Axis(0, 1.05 * highest, 0, 100)
    return [(axis.at(value), axis.at(highest if upper is None else upper)) for value in lower]


def _percents(axis: Axis) -> list[Tick]:
    return [Tick(tick.at, f"{100 * float(tick.text):g}\u00a0%") for tick in axis.ticks()]


def _steps(points: Sequence[tuple[int, float]], x: Axis, y: Axis) -> str:
    return f"M{x.at(0)} {y.at(0)}" + "".join(f"V{y.at(value)}H{x.at(charge)}" for charge, value in points)


def _path(points: Sequence[tuple[float, float]]) -> str:
    kept = [point for place, point in enumerate(points) if place == 0 or point != points[place - 1]]
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in kept)


def _round_step(rough: float) -> float:
    power: float = 10 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough - 1e-12)
