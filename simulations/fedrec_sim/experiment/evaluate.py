"""`fedrec evaluate`: quality of a released model on a dataset's held-out items, wherever it was trained.

A deployment has no true metrics: its users are elsewhere. Where its nodes were shards of a dataset, the owner of that
dataset can measure the released model here, with the code and the protocol of `fedrec simulate`.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.devices import check_device, make_repeatable
from fedrec.errors import InputError
from fedrec.received_files import refuse_links
from fedrec.screen import plain_console

if TYPE_CHECKING:
    from fedrec.data.datasets import Dataset
    from fedrec.data.splits import Split
    from fedrec.run.directory import RunDirectory
    from fedrec.run.scenario import Scenario


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, simulated or deployed.")],
    data_dir: DataDir = None,
    on: Annotated[
        str | None, typer.Option(metavar="test|validation", help="Held-out items; the scenario's own if left out.")
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(metavar="FILE.py:CLASS", help="The run's own code, which is imported."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, and nothing else.")] = False,
) -> None:
    """Measure a run's released model on the dataset that its scenario names; nothing is written.

    The figures are true metrics of private data, which no guarantee covers: for research on public datasets.

    Examples:

    - `fedrec evaluate runs/federation --data-dir DATA` - a model that nodes trained on shards of a dataset

    - `fedrec evaluate runs/tuned --on test --json` - a run with evaluation.on = validation, on items held back from it
    """
    check_device(device, "--device")
    make_repeatable(device)
    measured = measure(run, data_dir, on, device, algorithm)
    if as_json:
        json.dump(measured, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return

    from fedrec_sim.report.table import results_table

    console = plain_console()
    console.print(results_table(measured))
    console.print("True metrics, which the run's guarantee does not cover.")


def measure(
    run: Path,
    data_dir: Path | None,
    on: str | None,
    device: str,
    algorithm: str | None = None,
    model_in: Path | None = None,
) -> dict[str, Any]:
    """Measure a run's released model, or the one in the folder `model_in` in its place.

    Returns: the part of `summary.json` for a table of results.
    Raises: InputError for a run or data that cannot be used.
    """
    from fedrec.algorithms.discover import load_model
    from fedrec.data import datasets
    from fedrec.data.readers import NODES
    from fedrec.evaluation import report
    from fedrec.run.directory import RunDirectory
    from fedrec.run.scenario import code_in, load_scenario
    from fedrec_sim.engines.leak import NOTE

    folder = RunDirectory(run)
    refuse_links(folder.path)
    if not folder.summary.is_file() or not folder.holds_run:
        raise InputError(
            f"{run}: no finished run (needs release/ with scenario.toml and model/, and private/summary.json)"
        )
    own_code = code_in([] if algorithm is None else [f"algorithm.name={algorithm}"])
    scenario = load_scenario(str(folder.scenario), own_code=own_code)
    if scenario.data.name == NODES:
        raise InputError(f"{run}: its nodes had data of their own, and nothing was held out; there is nothing to rank")
    summary = json.loads(folder.summary.read_text(encoding="utf-8"))
    seed = int(summary["public_seed"])
    dataset = datasets.load(scenario.data, data_dir, seed)
    kind = scenario.algorithm_class if own_code else None
    own = own_split(folder, scenario, summary, dataset)
    split = split_on(scenario, dataset, own, on, seed)
    model = load_model(model_in or folder.model, own.training_catalogue(dataset.catalogue).ids, kind).to(device)
    metrics = report.evaluate(
        model,
        split,
        device=device,
        seed=seed,
        extended=scenario.evaluation.extended,
        catalogue=dataset.catalogue,
        metrics=scenario.evaluation.metrics,
    )
    return {
        "scenario": summary["scenario"],
        "dataset": {"name": dataset.name} | {name: dataset.report[name] for name in ("users", "items", "interactions")},
        "metrics": metrics,
        "order_free": None,
        "baselines": {},
        "evaluation": {"on": on or scenario.evaluation.on, "leaky_negatives": NOTE if split.leaky else None},
    }


def own_split(folder: "RunDirectory", scenario: "Scenario", summary: Mapping[str, Any], dataset: "Dataset") -> "Split":
    """Rebuild the split that a run was trained on, from `dataset`.

    Raises: InputError when the data are not those of the run, or that cannot be checked.
    """
    from fedrec_sim.engines.setup import scenario_split
    from fedrec_sim.report.fingerprint import same, secret_path

    run = folder.path
    if len(dataset.catalogue) != summary["dataset"]["items"]:
        raise InputError(
            f"{run}: trained on {summary['dataset']['items']:,} items, the data hold {len(dataset.catalogue):,}"
        )
    own = scenario_split(dataset, scenario, scenario.evaluation.on, int(summary["public_seed"]))
    known = summary["evaluation"].get("fingerprint")  # the server of a deployment has no split to describe
    same_split = True if known is None else same(known, own)
    if same_split is None:
        raise InputError(
            f"{run}: whether the data are those of the run cannot be checked: its fingerprint was made with another "
            f"secret than {secret_path()}; bring that one here, or train again"
        )
    if not same_split:
        raise InputError(f"{run}: the data are not those of the run, or are split in another way; bring back the run's")
    return own


def split_on(scenario: "Scenario", dataset: "Dataset", own: "Split", on: str | None, seed: int) -> "Split":
    """Return the split with the items `on` held out; the run's `own` for None.

    Raises: InputError for an unknown name, or items that the run was trained on.
    """
    from fedrec.data import splits
    from fedrec_sim.engines.setup import scenario_split

    if on is None or on == scenario.evaluation.on:
        return own
    if on not in splits.HELD_OUT:
        raise InputError(f"--on {on}: evaluation.on must be 'test' or 'validation'")
    split = scenario_split(dataset, scenario, "test" if on == "test" else "validation", seed)
    if own.new_items is not None:
        raise InputError(f"--on {on}: the run has no place for these items; run it again with --set evaluation.on={on}")
    if len(own.train.items) > len(split.train.items):
        raise InputError(f"--on {on}: the run was trained on these items; run it again with --set evaluation.on={on}")
    return split
