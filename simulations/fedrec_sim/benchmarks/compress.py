"""Size, speed and quality of compressed models next to the original: the rows of `fedrec bench compress`."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fedrec
from fedrec.algorithms.discover import load_model
from fedrec.audit.evidence.layout import Layout
from fedrec.compress.compressed import compress
from fedrec.compress.settings import Steps
from fedrec.errors import InputError
from fedrec.ondevice.released import load
from fedrec.recommend.device_lists import history_of
from fedrec_sim.experiment.evaluate import measure

FORMS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8},
    "int4": {"bits": 4},
    "prune 50 %": {"prune": 0.5},
    "prune 50 %, int8": {"prune": 0.5, "bits": 8},
    "prune 80 %, int8": {"prune": 0.8, "bits": 8},
    "half as long": {"distil": 2},
    "half as long, int8": {"distil": 2, "bits": 8},
    "a quarter as long": {"distil": 4},
}
"""Name -> steps; `distil` is what the length of the vectors is divided by."""
_TIMED = 50


def rows(run: Path, names: Sequence[str], data_dir: Path | None, people: int) -> Iterator[dict[str, Any]]:
    """Yield the row of the original, and one for each form that the kind of model has.

    Args:
        run: a finished run, whose data are at hand.
        names: of `FORMS`.
        data_dir: the folder with a folder for each dataset.
        people: users whose lists of 10 are compared.
    """
    source = Layout.of(run).release / "model"
    opened = fedrec.load_run(run, None, data_dir)
    data = opened.model.data
    assert data is not None
    batch = data.dataset.histories.batch(np.arange(min(people, len(data.dataset.histories))), data.seed)
    if not data.dataset.keep_order:
        batch = batch.unordered()
    histories = [history_of(batch, row) for row in range(min(_TIMED, len(batch)))]
    first = opened.model.released.recommend(batch, 10)[0].numpy()

    def row(name: str, folder: Path) -> dict[str, Any]:
        model = load_model(folder)
        again = first if folder == source else model.recommend(batch, 10)[0].numpy()
        both = [(set(a[a >= 0]), set(b[b >= 0])) for a, b in zip(first, again, strict=True)]
        same = [len(own & other) / max(1, len(own)) for own, other in both]
        form, spent = load(folder), []
        for history in histories:
            state = form.fit(history)
            start = time.process_time()
            form.top(state, 10, history.items)
            spent.append(time.process_time() - start)
        return {
            "model": opened.model.algorithm,
            "form": name,
            "bytes": (folder / "model.safetensors").stat().st_size,
            "overlap": float(np.mean(same)),
            "list_cpu_ms": 1000 * float(np.median(spent)),
            "metrics": measure(run, data_dir, None, "cpu", model_in=folder)["metrics"],
        }

    yield row("as released", source)
    for name in names:
        steps = dict(FORMS[name])
        with tempfile.TemporaryDirectory() as work:
            try:
                if "distil" in steps:
                    steps["distil"] = max(1, _dim(source) // steps["distil"])
                compress(run, Steps.model_validate(steps), Path(work) / "small")
            except InputError as error:
                yield {"model": opened.model.algorithm, "form": name, "refused": str(error)}
                continue
            yield row(name, Path(work) / "small/release/model")


def _dim(folder: Path) -> int:
    tensors = load_model(folder).tensors()
    found = tensors.get("items", tensors.get("encode"))
    return 2 if found is None else found.shape[1]
