"""Scenarios: TOML files that describe one run, changed by `--set` and written back whole."""

import copy
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from fedrec.algorithms.base import Algorithm
from fedrec.algorithms.discover import algorithm, algorithms, own_algorithm
from fedrec.data.balance import COUNTS
from fedrec.data.containers import located
from fedrec.data.datasets import DATA_PATHS, DataConfig
from fedrec.errors import InputError, nearest
from fedrec.evaluation.stopping import StoppingConfig
from fedrec.plugins import PluginRefused, is_reference
from fedrec.precision import Precision
from fedrec.privacy.plan import PrivacyConfig
from fedrec.run.federation import FederationConfig
from fedrec.run.scenario_changes import change_values, installed_algorithm
from fedrec.run.start_config import StartConfig, check_start
from fedrec.setting_hints import dotted_names
from fedrec.settings import Settings, parse, parse_change

_PATHS = (*DATA_PATHS, "start.run")
"""Settings that are paths: relative to the scenario file, or to the working directory for `--set`."""


class EvaluationConfig(Settings):
    """What is measured, in addition to the private metrics that `privacy.evaluation_share` pays for."""

    on: Literal["test", "validation"] = "test"
    """The held-out events to rank: `validation` for every choice that is made, `test` for what is reported."""
    order_free: bool = True
    """Also report the figure when devices ignore the order of their events."""
    baselines: bool = True
    """Also run popularity, with the same privacy and without any."""
    users: int | None = Field(default=None, gt=0)
    """Users who are ranked at the end, drawn once from the public seed; left out for everybody with a held-out item."""
    every: int | None = Field(default=None, ge=0)
    """Rounds between points of the training curve; 0 for none, left out for about eight points."""
    curve_users: int = Field(default=1000, gt=0)
    """Users that a point of the training curve is measured on, drawn once from the public seed."""
    extended: bool = False
    """Also F1, MAP, AUC, exposure, novelty, popularity bias, diversity, errors of ratings, and results by group."""
    metrics: tuple[str, ...] = ()
    """Further metrics by name and cut-off, e.g. `ndcg@5`, also of installed packages; below "more" in the summary."""
    leaky_negatives: bool = False
    """Reproduce a published leak on purpose: training negatives avoid the held-out item. Every output says so."""
    keep_ranks: bool = False
    """Keep each user's ranks in `evaluation/ranks.npz`, for tests of significance: private data, covered by nothing."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _of_a_text(cls, given: Any) -> Any:
        return tuple(filter(None, map(str.strip, given.split(",")))) if isinstance(given, str) else given


class EngineConfig(Settings):
    """Where and in what portions the computation runs. On a CPU no bit of a sum depends on the portions."""

    name: Literal["in-process", "flower"] = "in-process"
    """In this process, or on Flower's runtime: a simulation's virtual nodes."""
    nodes: int = Field(default=1, ge=1)
    """Nodes of a deployment, or virtual nodes of Flower's runtime; one process has none."""
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    batch_users: int = Field(default=1024, gt=0)
    """Most users in one chunk."""
    batch_events: int = Field(default=250_000, gt=0)
    """Most events in one chunk, but for a single user with more."""
    memory_mb: int = Field(default=512, ge=0)
    """What all simulated devices together may remember between rounds; the rest compute it again."""
    precision: Precision = "float32"
    """Of the users' products in one process: `float32`, `tf32` or `bfloat16`; norms, sums and noise keep theirs."""

    @model_validator(mode="after")
    def _fits(self) -> "EngineConfig":
        if self.name == "flower" and self.precision != "float32":
            raise ValueError(f"precision = '{self.precision}' is for name = 'in-process'; nodes compute in float32")
        return self


class ProvenanceConfig(Settings):
    """How the settings were found, for the privacy statement."""

    tuned_on: str = ""
    """Whose private data decided on the settings, which epsilon does not cover; empty for none."""
    tuned_by: str = ""
    """How they were searched for."""


class Scenario(Settings):
    """One simulation."""

    name: str = "unnamed"
    """What the run is called."""
    description: str = ""
    """One line for `fedrec simulate --list`."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Given: everything repeats, the noise too. Left out: the noise is drawn afresh from the system and not kept."""
    data: DataConfig
    """Which log, and how it is cleaned and split."""
    algorithm: dict[str, Any]
    """`name`, and the algorithm's own settings."""
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    """The guarantee that the run must keep."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """What is measured."""
    stopping: StoppingConfig = Field(default_factory=StoppingConfig)
    """Whether private looks between the rounds may end the run early."""
    engine: EngineConfig = Field(default_factory=EngineConfig)
    """Where it runs."""
    federation: FederationConfig = Field(default_factory=FederationConfig)
    """How a server deals with nodes; without meaning in one process."""
    start: StartConfig = Field(default_factory=StartConfig)
    """The run whose release this one starts from; none unless given."""
    provenance: ProvenanceConfig = Field(default_factory=ProvenanceConfig)
    """How the settings were found; `fedrec tune` fills it in."""
    _own_code: bool | str = PrivateAttr(False)
    """As in `load_scenario`."""

    @cached_property
    def algorithm_class(self) -> type[Algorithm]:
        """The class that `algorithm.name` names.

        Raises: InputError that names the nearest; PluginRefused for code by its place that the user did not name.
        """
        if "name" not in self.algorithm:
            raise InputError("scenario: [algorithm] has no name; say which, e.g. --set algorithm.name=popularity")
        name = str(self.algorithm["name"])
        if is_reference(name) and self._own_code is not True and name != self._own_code:
            raise PluginRefused(
                f"scenario '{self.name}': algorithm.name = '{self.algorithm_called}' names code by its place, for "
                "simulations whose user names it: --set algorithm.name=FILE.py:CLASS (or install its package)"
            )
        return algorithm_named(name)

    @property
    def algorithm_called(self) -> str:
        """Name of the algorithm in ledger and summary, without the folder of a file of one's own."""
        place, colon, kind = str(self.algorithm.get("name", "")).rpartition(":")
        return f"{Path(place).name if place.endswith('.py') else place}{colon}{kind}"

    @cached_property
    def algorithm_config(self) -> Settings:
        """The algorithm's settings, checked. Raises: InputError that names the wrong key."""
        own = {key: value for key, value in self.algorithm.items() if key != "name"}
        where = f"scenario '{self.name}', [algorithm]"
        return parse(self.algorithm_class.Config, own, where, dotted_names(Scenario))

    def resolved(self) -> dict[str, Any]:
        """Return every setting with its value, defaults included. None is left out, as TOML has none."""
        whole = self.model_dump(mode="json", exclude_none=True) | {"privacy": self.privacy.resolved()}
        if not any(whole["provenance"].values()):
            del whole["provenance"]
        if self.start.run is None:
            del whole["start"]
        if not self.evaluation.metrics:  # a setting of today, which the text of older runs lacks
            del whole["evaluation"]["metrics"]
        if self.stopping.every is None:  # the rest of the table has no effect then
            del whole["stopping"]
        own = self.algorithm_config.model_dump(mode="json", exclude_none=True)
        return whole | {"algorithm": {"name": self.algorithm["name"]} | own}

    def toml(self, comment: str = "", folder: Path | None = None) -> str:
        """Return the resolved scenario as TOML text, `comment` first.

        folder: the file's folder. Paths are relative to it and reveal little of this machine; None: they are absolute.
        """
        values = self.resolved()
        if folder is not None:
            _each_path(values, lambda path: _from(path, folder))
        head = "".join(f"# {line}\n" for line in comment.splitlines())
        return head + "\n".join(_toml(values)) + "\n"


def built_in() -> dict[str, Path]:
    """Return the files of the built-in scenarios, by name."""
    folder = Path(str(files("fedrec.run"))) / "scenarios"
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def algorithm_named(name: str) -> type[Algorithm]:
    """Return the algorithm of that name, or at that place in code of one's own. Raises: InputError."""
    return own_algorithm(name) if is_reference(name) else algorithm(name)


def code_in(changes: Iterable[str]) -> str | bool:
    """Return the absolute place of code in `--set algorithm.name=FILE.py:CLASS`; False where no change has one."""
    values: dict[str, Any] = {}
    for change in changes:
        key, value = parse_change(change)
        if key == "algorithm.name" and is_reference(str(value)):
            values = {"algorithm": {"name": str(value)}}
    _locate(values, Path.cwd())
    return values["algorithm"]["name"] if values else False


def load_scenario(
    name: str,
    changes: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    *,
    own_code: bool | str = False,
) -> Scenario:
    """Load the scenario in the TOML file `name`, or the built-in one of that name.

    Args:
        name: a TOML file, or the name of a built-in scenario.
        changes: `key.key=value` texts from `--set`. overrides: dotted keys with their values, from other options.
        own_code: whether `algorithm.name` may name code by its place (`package.module:Class`, `file.py:Class`); a text
            allows that place alone. True is for a simulation whose user chose it: no folder or message names code.
    Raises: InputError for an unknown name, text that is no TOML, or a key or value that cannot be.
    """
    values = read_values(name)
    given = [(*parse_change(change), f"--set {change}") for change in changes]
    change_values(values, [*given, *((key, value, key) for key, value in (overrides or {}).items())], name)
    return checked(values, name, own_code=own_code)


def read_values(name: str) -> dict[str, Any]:
    """Return the values of the TOML file `name`, or of the built-in scenario of that name, with a name added.

    Raises: InputError for an unknown name or text that is no TOML.
    """
    known = built_in()
    path = known.get(name, Path(name))
    if name not in known and not path.is_file():
        if path.suffix == ".toml" or path.parent != Path("."):
            raise InputError(f"{name}: no such scenario file")
        raise InputError(f"unknown scenario '{name}'.{nearest(name, known)} Or give a TOML file.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte-order mark
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    values.setdefault("name", path.stem)
    _locate(values, path.parent)
    return values


def _locate(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of a scenario absolute, in place: `~` is the home folder, the others are relative to `folder`."""
    _each_path(values, lambda path: located(path, folder))


def _from(path: str, folder: Path) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path


def _each_path(values: dict[str, Any], change: Callable[[str], str]) -> None:
    """Change every path of a scenario's values, in place."""
    for *sections, last in (key.split(".") for key in _PATHS):
        table: Any = values
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(table.get(last), str) and table[last] not in COUNTS:
            table[last] = change(table[last])
    named = values.get("algorithm")
    if isinstance(named, dict) and isinstance(named.get("name"), str):
        place, _, kind = named["name"].rpartition(":")
        if place.endswith(".py"):
            named["name"] = f"{change(place)}:{kind}"


def checked(values: Mapping[str, Any], name: str, *, own_code: bool | str = False) -> Scenario:
    """Check the values of a scenario, with the algorithm's own settings, before anything is loaded.

    Args:
        values: the tables of the scenario. Relative paths are relative to the working directory.
        name: the scenario's name, for errors. own_code: as in `load_scenario`.
    Raises: InputError for an unknown key or a wrong value.
    """
    given: dict[str, Any] = copy.deepcopy(dict(values))
    _locate(given, Path.cwd())
    scenario = parse(Scenario, given, f"scenario '{name}'", _of_algorithm(given))
    scenario._own_code = own_code
    _ = scenario.algorithm_config
    check_start(scenario.start, scenario.algorithm_class, name)
    if is_reference(str(scenario.algorithm["name"])) and scenario.engine.name == "flower":
        raise InputError(
            f"scenario '{name}': algorithm.name = '{scenario.algorithm_called}' runs in this process alone; set "
            "engine.name=in-process, or install it as a package with an entry point"
        )
    if scenario.data.repeats == "keep" and scenario.privacy.evaluation_share:
        raise InputError(
            f"scenario '{name}': private looks rank what a user has not consumed yet; with data.repeats = 'keep' set "
            "privacy.evaluation_share=0"
        )
    if scenario.data.dropped_as_negatives and "negatives" not in scenario.algorithm_class.Config.model_fields:
        raise InputError(
            f"scenario '{name}': '{scenario.algorithm['name']}' draws no negatives; leave data.dropped_as_negatives out"
        )
    if scenario.stopping.every is not None and not scenario.privacy.evaluation_share:
        raise InputError(
            f"scenario '{name}': stopping.every = {scenario.stopping.every} asks for private looks that nothing pays "
            f"for; set privacy.evaluation_share, e.g. to 0.1 (true metrics never stop a run)"
        )
    return scenario


def setting_names() -> list[str]:
    """Return the dotted name of every setting that a scenario may have, with those of all algorithms."""
    own = dict.fromkeys(f"algorithm.{name}" for kind in algorithms().values() for name in dotted_names(kind.Config))
    return [*dotted_names(Scenario), "algorithm.name", *own]


def _of_algorithm(values: Mapping[str, Any]) -> list[str]:
    """Return the dotted settings of the algorithm in `values`; none for an unknown algorithm."""
    kind = installed_algorithm(values)
    return [] if kind is None else [f"algorithm.{name}" for name in dotted_names(kind.Config)]


def difference(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> str | None:
    """Describe the first setting in which two resolved scenarios differ; None when they are the same."""
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found = difference(old, new, f"{path}{key}.")
            if found:
                return found
        elif old != new:
            return f"{path}{key} was {old!r} and is {new!r} now"
    return None


def _toml(values: Mapping[str, Any], path: str = "") -> list[str]:
    lines = [f"{key} = {_toml_value(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{path}{key}]", *_toml(value, f"{path}{key}.")]
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml_value(inner)}' for key, inner in value.items())} }}"
    # TOML writes texts, numbers and booleans as JSON does, but for the one control character that JSON lets pass.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
