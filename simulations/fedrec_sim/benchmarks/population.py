"""The users of a measurement: those of a dataset, or any number of generated ones."""

from pathlib import Path
from typing import Any

from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig, load
from fedrec.data.histories import Histories
from fedrec.data.synthetic import SyntheticUsers


def open_users(job: dict[str, Any]) -> tuple[Histories | SyntheticUsers, Catalogue]:
    """The users that the job's "dataset" names; "synthetic" takes "users", "items" and "interactions_per_user"."""
    if job["dataset"] == "synthetic":
        source = SyntheticUsers(job["users"], job["items"], job["interactions_per_user"], job["seed"])
        return source, Catalogue(tuple(map(str, range(job["items"]))))
    folder = Path(job["data_dir"]) if job["data_dir"] else None
    dataset = load(DataConfig(name=job["dataset"]), folder, job["seed"])
    return dataset.histories, dataset.catalogue


def histories(job: dict[str, Any]) -> Histories:
    """The same users with all their events in memory."""
    import numpy as np

    source, _ = open_users(job)
    if isinstance(source, Histories):
        return source
    batch = source.batch(np.arange(len(source)), job["seed"])
    return Histories(batch.offsets.numpy(), batch.items.numpy().astype(np.int32), source.n_items)
