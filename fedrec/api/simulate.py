"""`fedrec.simulate`: a whole run from Python, by the machinery of the command line."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrec.api.data import Data, generated
from fedrec.api.run import Run
from fedrec.errors import BudgetExhausted, InputError
from fedrec.extras import named
from fedrec.settings import Settings

if TYPE_CHECKING:
    from fedrec.algorithms.base import Algorithm
    from fedrec.run.coordinator import RoundReport
    from fedrec.run.directory import RunDirectory
    from fedrec.run.scenario import Scenario


def load_scenario(name: str, settings: Mapping[str, Any] | None = None) -> "Scenario":
    """Load a scenario for `simulate`.

    Args:
        name: a built-in scenario (`fedrec simulate --list`), or a TOML file.
        settings: changes by dotted name, e.g. {"privacy.epsilon": 3}.

    Raises:
        InputError: naming the setting that cannot be, and the nearest one.

    >>> import fedrec
    >>> fedrec.load_scenario("quickstart", {"privacy.epsilon": 3}).privacy.epsilon
    3.0
    """
    from fedrec.run.scenario import code_in
    from fedrec.run.scenario import load_scenario as load

    named = (settings or {}).get("algorithm.name")
    return load(name, (), settings, own_code=code_in([] if named is None else [f"algorithm.name={named}"]))


def simulate(
    algorithm: "str | Settings | type[Algorithm] | Scenario" = "kernel-rank",
    data: Data | None = None,
    *,
    epsilon: float | str | None = None,
    delta: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    init: str | Path | Run | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    on_round: "Callable[[RoundReport], None] | None" = None,
    progress: bool | None = None,
) -> Run:
    """Train a federated recommender under user-level differential privacy, and measure it.

    Args:
        algorithm: a name ("kernel-rank", "als", ...), the settings of one (`KernelRankConfig(...)`), a class, the place
            of one ("file.py:Class"), or a whole scenario from `load_scenario`.
        data: from `load_dataset`, `read_log` or `split`; left out, the scenario's own.
        epsilon: target of everything that the run releases; "none" for a run without privacy; left out, the scenario's,
            or 1.
        delta: below 1 / users; left out, the scenario's, or 1e-5.
        seed: everything repeats, the noise too, so nothing is private. Left out, noise is secret and not kept.
        device: cpu, cuda or cuda:N.
        settings: further settings of a scenario by dotted name, e.g. {"privacy.sampling": 0.5}.
        init: another run, or its folder: start at the item vectors of its release. A run without privacy needs the
            setting {"start.public": True}, which declares its log public.
        data_dir: the folder that holds a folder for each dataset, where `data` is left out.
        out: a new folder for the run; left out, a temporary one, which `Run.save` copies and which ends with the `Run`.
        on_round: called with a report after each round, which is on disk by then.
        progress: show it; left out, in a terminal and in a notebook.

    Returns: the finished run.

    Raises: InputError, PrivacyError: one line, before any user is asked. BudgetExhausted: everything up to there is
        saved. KeyboardInterrupt: the last finished round is saved, and a note gives the `fedrec.resume` that continues.

    >>> import fedrec
    >>> data = fedrec.load_dataset("quickstart", users=200, items=60)
    >>> run = fedrec.simulate("popularity", data, epsilon=3, delta=1e-5, seed=1, progress=False)
    >>> run.epsilon <= 3
    True
    >>> run.model.recommend(history=["3", "7"], k=2).height
    2
    """
    begin = init.folder if isinstance(init, Run) else init
    given = {"privacy.epsilon": epsilon, "privacy.delta": delta, "seed": seed, "engine.device": device}
    given |= {"start.run": None if begin is None else str(begin)}
    changes = {name: value for name, value in given.items() if value is not None} | dict(settings or {})
    scenario = _scenario(algorithm, data, changes)
    if data is not None and data.log is not None and scenario.engine.name != "in-process":
        raise InputError("simulate: a table in memory is for engine.name = 'in-process'; write it to a file for nodes")
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="fedrec-")) / "run"
    where = data.data_dir if data is not None else None if data_dir is None else Path(data_dir)
    return _run(scenario, folder, data, where, on_round, progress, resumed=False, temporary=out is None)


def resume(
    folder: str | Path,
    data: Data | None = None,
    *,
    algorithm: str | None = None,
    data_dir: str | Path | None = None,
    on_round: "Callable[[RoundReport], None] | None" = None,
    progress: bool | None = None,
) -> Run:
    """Continue a run that was interrupted, from its last finished round.

    Args:
        folder: of the run; the note of the interruption gives it.
        data: the data, where the log was a table in memory.
        algorithm: "package.module:Class" or "file.py:Class", where the run is of code of your own.
        data_dir: as in `simulate`.
        on_round: as in `simulate`.
        progress: as in `simulate`.

    Raises:
        InputError: when the folder holds no run, or the data are not those that it began with.
    """
    from fedrec.run.directory import RunDirectory

    place = Path(folder)
    files = RunDirectory(place)
    if not files.holds_run:
        raise InputError(f"resume: {folder} holds no run")
    scenario = load_scenario(str(files.scenario), {} if algorithm is None else {"algorithm.name": algorithm})
    where = data.data_dir if data is not None else None if data_dir is None else Path(data_dir)
    return _run(scenario, files.path, data, where, on_round, progress, resumed=True, temporary=False)


def _scenario(algorithm: Any, data: Data | None, changes: Mapping[str, Any]) -> "Scenario":
    from fedrec.run.scenario import Scenario, checked
    from fedrec.run.scenario_changes import change_values

    if isinstance(algorithm, Scenario):
        values, own_code = algorithm.resolved(), algorithm._own_code
    else:
        table, own_code = _table_of(algorithm), True
        values = {"name": table["name"], "data": {}, "algorithm": table}
    if data is not None:
        values["data"] = data.config.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    name = str(values["name"])
    change_values(values, [(key, value, f"settings: {key}") for key, value in changes.items()], name)
    return checked(values, name, own_code=own_code)


def _table_of(algorithm: Any) -> dict[str, Any]:
    """The `[algorithm]` table of what was given. Raises: InputError when it names no algorithm."""
    from fedrec.algorithms.base import Algorithm
    from fedrec.algorithms.discover import algorithm as named
    from fedrec.algorithms.discover import algorithms
    from fedrec.plugins import is_reference

    if isinstance(algorithm, str):
        return {"name": algorithm if is_reference(algorithm) else named(algorithm).name}
    if isinstance(algorithm, type) and issubclass(algorithm, Algorithm):
        known = algorithms().get(algorithm.name) is algorithm
        return {"name": algorithm.name if known else f"{algorithm.__module__}:{algorithm.__qualname__}"}
    if isinstance(algorithm, Settings):
        for name, kind in algorithms().items():
            if type(algorithm) is kind.Config:
                return {"name": name} | algorithm.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    raise InputError(
        f"simulate: a {type(algorithm).__name__} is no algorithm; give a name, e.g. 'kernel-rank', its settings, or a "
        "scenario of load_scenario"
    )


def _run(
    scenario: "Scenario",
    folder: Path,
    data: Data | None,
    data_dir: Path | None,
    on_round: "Callable[[RoundReport], None] | None",
    progress: bool | None,
    *,
    resumed: bool,
    temporary: bool,
) -> Run:
    with named("simulate"):
        from fedrec_sim.simulation import Simulation

    from fedrec.api.progress import progress_of
    from fedrec.run.directory import RunDirectory

    files = RunDirectory(folder)
    log = None if data is None or generated(data) else data.read
    shown = progress_of(progress, on_round)
    with _kept(files, temporary):
        made = Simulation(scenario, files, data_dir, shown, resume=resumed, log=log, movable=temporary)
        _, exhausted = made.run()
    if exhausted:
        raise BudgetExhausted(f"{exhausted}; everything up to there is in {folder}: fedrec.load_run({str(folder)!r})")
    return Run(folder, data, data_dir, temporary=temporary, own_code=scenario._own_code)


@contextlib.contextmanager
def _kept(files: "RunDirectory", temporary: bool) -> Iterator[None]:
    """Whatever ends a run early keeps its finished rounds, and says how to continue; nothing else stays behind."""
    try:
        yield
    except BaseException as error:
        if files.checkpoint.is_file():
            error.add_note(f"Finished rounds are kept; continue with: fedrec.resume({str(files.path)!r})")
        elif files.ledger.is_file():
            error.add_note(f"No round was finished; the ledger with what was charged is in {files.path}")
        elif temporary:
            shutil.rmtree(files.path.parent, ignore_errors=True)
        raise
