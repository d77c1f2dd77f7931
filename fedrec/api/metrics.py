"""True metrics of a run by name, with the nearest name where one is not there."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import polars as pl

from fedrec.errors import InputError

FULL = "full"
"""The protocol that is meant where none is named: the rank among all items."""


class Metrics(Mapping[str, float]):
    """Figures by `protocol:metric`, e.g. "full:ndcg@10"; without a protocol, "full" is meant.

    They are true metrics, computed from held-out events without noise; no guarantee covers them.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = result
        self._flat = {
            f"{protocol}:{name}": float(value)
            for protocol, values in result.items()
            if isinstance(values, Mapping)
            for name, value in values.items()
            if isinstance(value, int | float)
        }

    def __getitem__(self, name: str) -> float:
        full = name if ":" in name else f"{FULL}:{name}"
        if full not in self._flat:
            from fedrec_sim.report.table import nearest_metric

            raise InputError(f"unknown metric '{name}'.{nearest_metric(name, self._flat)}")
        return self._flat[full]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name if ":" in name else f"{FULL}:{name}") in self._flat

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except InputError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._flat)

    def __len__(self) -> int:
        return len(self._flat)

    @property
    def rule(self) -> str:
        """The rule of the evaluation: held-out items, negatives and ties."""
        return str(self.result.get("rule", ""))

    @property
    def frame(self) -> pl.DataFrame:
        """A row for each figure: `protocol`, `metric`, `value`."""
        names = [name.partition(":") for name in self]
        return pl.DataFrame(
            {"protocol": [a for a, _, _ in names], "metric": [b for _, _, b in names], "value": list(self.values())},
            schema={"protocol": pl.String, "metric": pl.String, "value": pl.Float64},
        )

    def __repr__(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self.items())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4f}</td></tr>" for name, value in self.items())
        return f"<table>{rows}</table><p>True metrics, which no epsilon covers. {escape(self.rule)}</p>"
