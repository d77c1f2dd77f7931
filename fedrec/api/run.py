"""A run as Python sees it: what it spent, what it is worth, what it released, and where that is kept."""

import json
import shutil
import weakref
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from fedrec.api.audit import Report, Statement, statement_of
from fedrec.api.data import Data
from fedrec.api.metrics import Metrics
from fedrec.api.model import Model
from fedrec.data.datasets import DataConfig
from fedrec.errors import InputError
from fedrec.settings import parse

if TYPE_CHECKING:
    from fedrec.run.directory import RunDirectory
    from fedrec.run.scenario import Scenario


class Run:
    """A finished run in its folder; `simulate` and `load_run` make one.

    Args:
        folder: the run's folder.
        data: the data that it was trained on; None: they are read again, as the scenario says, when they are needed.
        data_dir: the folder that holds a folder for each dataset.
        temporary: the folder above is deleted with this object; `save` copies the run before.
        own_code: which code the scenario may name, as in `fedrec.run.scenario.load_scenario`.
    """

    def __init__(
        self,
        folder: Path,
        data: Data | None = None,
        data_dir: Path | None = None,
        *,
        temporary: bool = False,
        own_code: bool | str = False,
    ) -> None:
        self.folder = folder
        self._given, self._data_dir, self._own_code = data, data_dir, own_code
        self._removal = weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True) if temporary else None

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of `private/summary.json`.

        Raises:
            InputError: when the folder holds no finished run.
        """
        file = self._files.summary
        if not file.is_file():
            raise InputError(f"{self.folder}: holds no private/summary.json: it is not finished, or not the whole run")
        found: dict[str, Any] = json.loads(file.read_bytes())
        return found

    @cached_property
    def scenario(self) -> "Scenario":
        """Every setting of the run."""
        from fedrec.run.scenario import load_scenario

        return load_scenario(str(self._files.scenario), own_code=self._own_code)

    @property
    def epsilon(self) -> float | None:
        """Epsilon of everything that the run released, at `delta`; None without privacy."""
        found: float | None = self.summary["privacy"]["epsilon"]
        return found

    @property
    def delta(self) -> float | None:
        """Delta of the guarantee; None without privacy."""
        found: float | None = self.summary["privacy"]["delta"]
        return found

    @property
    def metrics(self) -> Metrics:
        """True metrics on the held-out items, e.g. `run.metrics["ndcg@10"]`; no guarantee covers them."""
        return Metrics(self.summary["metrics"])

    @property
    def baselines(self) -> dict[str, Metrics]:
        """The same of the baselines, by name."""
        return {name: Metrics(result) for name, result in self.summary["baselines"].items()}

    @property
    def history(self) -> pl.DataFrame:
        """A row for each round: seconds, epsilon spent, bytes, and true metrics where they were measured."""
        return pl.read_csv(self._files.history)

    @property
    def statement(self) -> Statement:
        """The promise of the run, its adversaries, and its limits."""
        return statement_of(self.folder)

    @property
    def data(self) -> Data:
        """The data of the run.

        Raises:
            InputError: when they are gone, or are others than the run was trained on.
        """
        return self._checked[0]

    def data_in(self, log: Path) -> Data:
        """The data as the scenario says, with the log in another file.

        Raises:
            InputError: when it cannot be used.
        """
        own = self.scenario.data.model_dump(exclude_unset=True)
        return Data(parse(DataConfig, own | {"name": "file", "path": log.absolute()}, "the log"), self._data_dir)

    @cached_property
    def model(self) -> Model:
        """The released model, with the run's users and titles."""
        from fedrec.algorithms.discover import load_model, model_items

        place, own = self._files.model, self.scenario.algorithm_class if self._own_code else None
        return Model(load_model(place, None, own), model_items(place), lambda: self.data, where=str(self.folder))

    def evaluate(
        self,
        on: Literal["test", "validation"] | None = None,
        *,
        device: str = "cpu",
        order_free: bool = False,
        extended: bool = False,
        metrics: Sequence[str] = (),
    ) -> Metrics:
        """Measure the released model again on the held-out items. True metrics, which no guarantee covers.

        Args:
            on: held-out items; left out, those of the run.
            device: cpu, cuda or cuda:N.
            order_free: devices ignore the order of events.
            extended: also F1, MAP, AUC, exposure, novelty, diversity (below `result["more"]`).
            metrics: further metrics by name and cut-off, such as `ndcg@5`, also of installed packages (as above).

        Raises:
            InputError: when the data are gone, or the run was trained on these items.
        """
        from fedrec_sim.experiment.evaluate import split_on

        from fedrec.evaluation.report import evaluate

        data, own = self._checked
        split = split_on(self.scenario, data.dataset, own, on, data.seed)
        model = self.model.released.to(device)
        result = evaluate(
            model,
            split,
            device=device,
            seed=data.seed,
            order_free=order_free,
            extended=extended,
            catalogue=data.dataset.catalogue,
            metrics=metrics,
        )
        return Metrics(result)

    def report(self) -> Report:
        """The privacy page: the promise in plain words, the best attack, the budget. It is free of private data."""
        return Report(self._files.report)

    def save(self, folder: str | Path) -> Path:
        """Copy the whole run to a new folder; from then on this object reads it there.

        The folder holds `release/`, which may be handed on, and `private/`, which may not. The scenario in `release/`
        names the files of the data by their full paths, where the run was made without `out`.

        Raises:
            InputError: when something is in that folder already.
        """
        from fedrec.run.directory import RunDirectory, make_folder

        target = Path(folder)
        RunDirectory(target).check_free()
        make_folder(target, private=True)
        try:
            shutil.copytree(self.folder, target, symlinks=True, dirs_exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{target}: cannot be written ({error.strerror or error}); choose another folder"
            ) from None
        self._forget()
        self.folder = target
        self.__dict__.pop("_files", None)
        return target

    def _forget(self) -> None:
        if self._removal is not None:
            self._removal()
            self._removal = None

    @cached_property
    def _files(self) -> "RunDirectory":
        from fedrec.run.directory import RunDirectory

        return RunDirectory(self.folder)

    @cached_property
    def _checked(self) -> tuple[Data, Any]:
        """The data and the split that the run was trained on."""
        from fedrec_sim.experiment.evaluate import own_split

        seed = int(self.summary["public_seed"])
        data = self._given or Data(self.scenario.data, self._data_dir)
        try:
            data = data.with_seed(seed)
            dataset = data.dataset
        except InputError as error:
            raise InputError(
                f"{self.folder}: the run's data cannot be read again: {error} (or give them: data=..., --log FILE)"
            ) from None
        return data, own_split(self._files, self.scenario, self.summary, dataset)

    def __repr__(self) -> str:
        privacy = "no privacy" if self.epsilon is None else f"epsilon {self.epsilon:.4g} at delta {self.delta:g}"
        return f"Run({self.summary['algorithm']} on {self.summary['dataset']['name']}, {privacy}, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from fedrec_sim.report.table import labelled_results, privacy_line

        rows, results = "", labelled_results(self.summary)
        names = [name for name in ("hr@10", "ndcg@10", "recall@20") if name in next(iter(results.values()))["full"]]
        for label, result in results.items():
            cells = "".join(f"<td>{result['full'][name]:.4f}</td>" for name in names)
            rows += f"<tr><th>{escape(label)}</th>{cells}</tr>"
        heads = "".join(f"<th>{escape(name)}</th>" for name in names)
        name = escape(self.summary["dataset"]["name"])
        return (
            f"<table><caption>{name}: true metrics, which no epsilon covers</caption>"
            f"<tr><th></th>{heads}</tr>{rows}</table><p>{escape(privacy_line(self.summary))}</p>"
        )


def load_run(
    folder: str | Path,
    data: Data | None = None,
    data_dir: str | Path | None = None,
    *,
    algorithm: str | None = None,
) -> Run:
    """Open a run that `save` or `fedrec simulate` wrote.

    Args:
        folder: the run's folder.
        data: the data that it was trained on; left out, they are read again, as the scenario says, when needed.
        data_dir: the folder that holds a folder for each dataset; left out, the environment's FEDREC_DATA.
        algorithm: "package.module:Class" or "file.py:Class", where the run is of code of your own. A folder never names
            code that is imported.

    Raises:
        InputError: when the folder holds no finished run.
        VerificationError: when a file of it is a link.

    >>> import fedrec, tempfile
    >>> data = fedrec.load_dataset("quickstart", users=100, items=40)
    >>> run = fedrec.simulate("popularity", data, seed=1, progress=False)
    >>> folder = run.save(tempfile.mkdtemp() + "/run")
    >>> fedrec.load_run(folder).epsilon == run.epsilon
    True
    """
    from fedrec.received_files import refuse_links
    from fedrec.run.scenario import code_in

    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder")
    refuse_links(place)
    own_code = code_in([] if algorithm is None else [f"algorithm.name={algorithm}"])
    run = Run(place, data, None if data_dir is None else Path(data_dir), own_code=own_code)
    if not run._files.holds_run:
        raise InputError(f"{folder}: holds no run (needs release/scenario.toml)")
    _ = run.summary
    return run
