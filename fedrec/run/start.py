"""The start of a run at another run's release: item vectors, aligned, and what it means for whose privacy.

| the other run | accepted | this run's statement |
|---|---|---|
| without privacy | only where its log is declared public | names it; nothing is promised to its people |
| without privacy, on this run's people | never under privacy | |
| private, other people | where the operator says so | carries its epsilon, which is those people's |
| private, the same people | yes | carries its epsilon and the sum of both |

What is read is the release alone: its ledger is checked, and its model must be the one that the ledger fixes.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedrec.algorithms.base import ItemStart
from fedrec.algorithms.discover import load_model, model_items
from fedrec.audit.entries.start import Start
from fedrec.audit.evidence.received_run import MODEL, received
from fedrec.audit.statement.received import Received, receive
from fedrec.audit.verify.verification import integrity
from fedrec.data import datasets
from fedrec.data.catalogue import Catalogue
from fedrec.data.datasets import DataConfig
from fedrec.data.matching import positions
from fedrec.errors import FedrecError, InputError, PrivacyError, VerificationError
from fedrec.privacy.config import PrivacyConfig
from fedrec.rounding import rounded_up
from fedrec.run.directory import RunDirectory
from fedrec.run.start_config import StartConfig
from fedrec.settings import parse

VECTORS = "items"
"""Name of the item vectors in a released model."""


@dataclass(frozen=True)
class Begun:
    """A start that was read and checked.

    Attributes:
        vectors: the aligned item vectors.
        record: what ledger and statement say of it.
    """

    vectors: ItemStart
    record: Start


def begun(
    config: StartConfig,
    catalogue: Catalogue,
    dataset: str,
    split: str,
    privacy: PrivacyConfig,
    seed: int | None,
    data_dir: Path | None,
) -> Begun | None:
    """Read the run that another one starts from.

    Args:
        config: the `[start]` table.
        catalogue: the items that the new run trains on.
        dataset: name of its data.
        split: how its events are split.
        privacy: the guarantee that it must keep.
        seed: its seed; None for secret noise.
        data_dir: folder of datasets, for the other run's titles.

    Returns: the start; None where there is none.

    Raises:
        InputError: for a run that cannot be read or does not fit.
        PrivacyError: for one from which nothing private could be promised.
        VerificationError: for a ledger that does not verify, or a model that is not the one it fixes.
    """
    if config.run is None:
        return None
    if split == "cold-items":
        raise InputError(
            f"[start] {config.run}: may have learned from events on the items that data.split = 'cold-items' takes for "
            "new; take another split, or no start"
        )
    if config.run.is_file():
        raise InputError(
            f"[start] {config.run}: an exported file holds no model; give the run's folder or its release/"
        )
    folder, known = RunDirectory(config.run), _checked(config.run)
    end = known.known.end
    if end is None:
        raise InputError(f"[start] {config.run}: the run is not finished; --init takes a finished one")
    model, own = load_model(folder.model), model_items(folder.model)
    digest = end.files.get(MODEL, "")
    if digest != _digest(folder):
        raise VerificationError(f"[start] {config.run}: its model is not the one that its ledger fixes")
    if config.sha256 not in ("", digest):
        raise InputError(f"[start] {config.run}: its model is {digest}, and start.sha256 asks for {config.sha256}")
    vectors = model.tensors().get(VECTORS)
    if vectors is None or vectors.ndim != 2 or len(vectors) != len(own):
        raise InputError(f"[start] {config.run}: a model of kind '{model.kind}' has no item vectors to start from")
    scenario = tomllib.loads(folder.scenario.read_text(encoding="utf-8"))
    found = positions(catalogue, _catalogue(config, own, scenario, folder, data_dir), config.match)
    here = torch.from_numpy(found >= 0)
    aligned = torch.zeros(len(found), vectors.shape[1])
    aligned[here] = vectors.detach().cpu().float()[torch.from_numpy(found[found >= 0])]
    record = _record(config, known, dataset, privacy, digest, int(np.sum(found >= 0)))
    if record.people == "same" and seed is not None and record.seeded and scenario.get("seed") == seed:
        raise PrivacyError(
            f"[start] {config.run}: drew its noise from the same seed {seed} on the same people, and the same noise on "
            "two releases can be taken off; take another seed"
        )
    return Begun(ItemStart(aligned, here), record)


def _checked(run: Path) -> Received:
    known = receive(run)
    evidence = received(known.place)
    _, _, faults = integrity(evidence, evidence.own_key("--init", "a finished run"))
    if faults or known.faults:
        raise VerificationError(f"[start] {run}: not used: {[*faults, *known.faults][0]}")
    return known


def _digest(folder: RunDirectory) -> str:
    return hashlib.sha256((folder.model / "model.safetensors").read_bytes()).hexdigest()


def _catalogue(
    config: StartConfig, own: list[str], scenario: dict[str, Any], folder: RunDirectory, data_dir: Path | None
) -> Catalogue:
    """Return the other run's catalogue, with titles where its data can be read: `match` by title needs them."""
    try:
        table = dict(scenario.get("data", {}))
        for name in ("path", "catalogue"):
            if name in table:
                table[name] = str((folder.scenario.parent / table[name]).resolve())
        made = parse(DataConfig, table, "[data] of the other run")
        found = datasets.load(made, data_dir, int(scenario.get("seed", 0))).catalogue
    except FedrecError as error:
        if config.match == "title":
            raise InputError(f"[start] match = 'title' needs the items of {config.run}, and: {error}") from None
        return Catalogue(tuple(own))
    if list(found.ids) != own:
        raise InputError(f"[start] {config.run}: its data hold other items than its model by now; bring back the file")
    return found


def _record(
    config: StartConfig, known: Received, dataset: str, privacy: PrivacyConfig, digest: str, items: int
) -> Start:
    stated, begin = known.statement, known.known.begin
    where, same_data = f"[start] {config.run}", stated.dataset.name == dataset
    protected = begin.private and begin.target_epsilon is not None
    if not protected and not config.public:
        raise PrivacyError(
            f"{where}: was trained on '{stated.dataset.name}' without privacy, so its model may reveal its people; "
            "where that log is public, declare it: --init-public (start.public=true)"
        )
    if protected and config.public:
        raise InputError(f"{where}: is a private run, and start.public is for one without privacy; leave it out")
    if not protected and privacy.private and (config.people == "same" or (config.people is None and same_data)):
        raise PrivacyError(
            f"{where}: saw the people of '{dataset}' without privacy, so a private run on them promises them nothing; "
            "start from other people's (start.people=other), or from a private run"
        )
    before = begin.start
    chain = [] if before is None else before.chain
    if privacy.private and config.people != "other" and {f"{dataset} (public)", f"{dataset} (other)"} & set(chain):
        raise PrivacyError(
            f"{where}: itself started from a run on '{dataset}', whose epsilon its own does not count; start from a "
            "run that did not, or say that those were other people (start.people=other)"
        )
    people = config.people or ("same" if same_data else None)
    if protected and people is None:
        raise InputError(
            f"{where}: is of the people of '{stated.dataset.name}'; say whether they are those of '{dataset}': "
            "start.people=other, or same, whose budgets add up"
        )
    epsilon, delta = begin.target_epsilon, begin.delta
    if protected and before is not None and before.people == "same":
        if before.both_epsilon is None:
            raise PrivacyError(f"{where}: no epsilon holds for its people, by its own start")
        epsilon, delta = before.both_epsilon, before.both_delta
    facts: dict[str, Any] = {
        "model": digest,
        "ledger": known.head,
        "dataset": stated.dataset.name,
        "users": stated.dataset.users,
        "items": items,
        "people": people if protected else "public",
        "epsilon": epsilon if protected else None,
        "delta": delta if protected else None,
        "before": chain,
        "seeded": begin.seeded,
    }
    made = Start(**facts)
    if made.people == "same" and privacy.private:
        both = made.added(repr(float(privacy.epsilon)), repr(privacy.delta))
        if both is not None:
            return Start(**facts, both_epsilon=rounded_up(both[0]), both_delta=repr(both[1]))
    return made
