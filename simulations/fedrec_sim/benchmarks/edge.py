"""What a list costs on a small computer: the jobs of `fedrec bench edge`, each a process of its own on one thread."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fedrec.errors import InputError

USERS_AT_ONCE = 256
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def generated_model(folder: Path, items: int, dim: int, seed: int = 0) -> Path:
    """Write an `als` model of random item vectors, as a run writes one, and return its folder.

    Args:
        folder: a new folder.
        items: size of the catalogue.
        dim: length of a vector.
        seed: of the vectors.
    """
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    table = generator.standard_normal((items, dim), np.float32)
    gram = (table.T @ table).astype(np.float32)
    popularity = generator.random(items, np.float32)
    tensors = folder / "model.safetensors"
    save_file({"items": table, "gram": gram, "popularity": popularity}, tensors)
    ids = ("[\n" + ",\n".join(f'"item-{n}"' for n in range(items)) + "\n]\n").encode()
    (folder / "items.json").write_bytes(ids)
    with tensors.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {
        "kind": "als",
        "model": {"alpha0": 0.3, "reg": 0.003, "nu": 1.0},
        "sha256": digest,
        "items": {"count": items, "sha256": hashlib.sha256(ids).hexdigest()},
    }
    (folder / "manifest.json").write_text(json.dumps(about))
    return folder


def on_a_device(job: dict[str, Any]) -> dict[str, Any]:
    """Run a job of `fedrec_sim.benchmarks.edge_device` in a process of its own.

    Raises:
        InputError: when it fails, with the end of its error output.
    """
    command = [sys.executable, "-m", "fedrec_sim.benchmarks.edge_device", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise InputError(f"bench edge: {job['what']} failed: {done.stderr.strip().splitlines()[-1:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def parity(run: Path, folder: Path, k: int, most: int | None = None) -> dict[str, int]:
    """Count the users of a run's log whose list on a device differs from that of the torch form, in an item or a place.

    Args:
        run: the run; its data are read again.
        folder: the run's model.
        k: places of a list.
        most: compare the first users alone.

    Raises:
        InputError: when the data are gone.
    """
    import fedrec
    from fedrec.ondevice.released import load
    from fedrec.recommend.device_lists import differing

    opened = fedrec.load_run(run)
    data, form = opened.model.data, load(folder)
    if data is None:
        raise InputError(f"--parity: {run} has no data; give the run that trained the model")
    histories = data.dataset.histories
    users = len(histories) if most is None else min(most, len(histories))
    differ = 0
    for start in range(0, users, USERS_AT_ONCE):
        batch = histories.batch(np.arange(start, min(start + USERS_AT_ONCE, users)), data.seed)
        differ += len(differing(opened.model.released, form, batch, k))
    return {"users": users, "differ": differ}


def measure(folder: Path, index: Path, events: int, k: int, repeat: int, tries: int) -> dict[str, Any]:
    """Measure one model.

    Args:
        folder: the model's folder.
        index: where its index is kept, and next to it a device. Both are made first, and not measured.
        events: of a history.
        k: places of a list.
        repeat: measured lists.
        tries: lists that are compared with an exact search through all items; 0 for none.
    """
    common = {"folder": str(folder), "index": str(index), "events": events, "k": k}
    on_a_device(common | {"what": "first"})  # makes the index
    found: dict[str, Any] = {"first": on_a_device(common | {"what": "first"})}
    found |= on_a_device(common | {"what": "lists", "repeat": repeat})
    if (folder / "items.json").is_file():
        device = common | {"device": str(index.with_name(f"{index.name}-device"))}
        on_a_device(device | {"what": "prepare"})
        found["client"] = {"first": on_a_device(device | {"what": "client-first"})}
        found["client"] |= on_a_device(device | {"what": "client", "repeat": repeat})
    if tries:
        found["exact"] = on_a_device(common | {"what": "exact", "repeat": tries})
    return found
