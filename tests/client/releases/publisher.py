"""A publisher for tests: small models under genuine ledgers, in a folder that a web server on loopback serves."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fedrec_client import EdgeClient, KeyFile
from fedrec_server.releases.folder import Lifetimes, ReleaseFolder
from fedrec_server.releases.publish import pack, published_heads
from fedrec_server.releases.roles import RoleKeys

from fedrec.audit.log import proofs
from fedrec.audit.log.checkpoint import Checkpoint, Older
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.log.ledger import Ledger
from fedrec.model import ReleasedModel
from fedrec.releases.record import Release
from tests.client.edge.devices import released

OPERATOR = SigningKey.generate()
"""The root key and the release key, and that of ledgers."""


class Publisher:
    """A folder of releases: `ledger` fixes a model, `release` makes its record, `offer` signs it as the newest."""

    def __init__(self, path: Path, *, roots: Sequence[SigningKey] = (OPERATOR,), threshold: int = 1) -> None:
        self.path, self.key = path, OPERATOR
        self.sequence, self._runs = 0, 0
        self.folder = self.at()
        with self.folder.alone():
            keys = RoleKeys(tuple(key.public for key in roots), threshold, OPERATOR.public, (OPERATOR.public,))
            self.folder.begin(roots, keys)

    def at(self, now: datetime | None = None, lifetimes: Lifetimes | None = None) -> ReleaseFolder:
        """The folder at another time."""
        return ReleaseFolder(self.path / "web", now, lifetimes)

    def model(self, model: ReleasedModel, ids: list[str] | None = None) -> Path:
        """Write a model as a run does."""
        self._runs += 1
        return released(model, self.path / f"run-{self._runs}", ids) / "release" / "model"

    def ledger(
        self, folder: Path, *, records: int = 3, name: str = "", run: str | None = None, key: SigningKey = OPERATOR
    ) -> Ledger:
        """Make a ledger whose last record fixes the model in `folder`."""
        place = self.path / "ledgers" / (name or folder.parents[1].name)
        place.mkdir(parents=True)
        ledger = Ledger(place / "ledger.jsonl", key, run=run)
        for number in range(records - 1):
            ledger.append({"type": "note", "what": str(number)})
        close(ledger, folder)
        return ledger

    def release(
        self,
        model: Path,
        ledger: Ledger,
        *,
        after: Release | None = None,
        witnesses: Sequence[SigningKey] = (),
        min_rating: float | None = None,
    ) -> Release:
        """Make the record of a model under the ledger's head; `after` is the release before."""
        packed = pack(model, digests(model), self.folder)
        self.sequence += 1
        chain = ledger.chain
        sealed = Checkpoint(ledger.run, len(chain.records), chain.roots[-1]).signed(ledger.key)
        for number, witness in enumerate(witnesses):
            sealed = sealed.cosigned(f"witness-{number}", witness, 1_700_000_000)
        heads = published_heads(after) if after is not None and after.run == ledger.run else []
        growth = [
            proofs.of_growth(chain, sealed, Older("", head.size, bytes.fromhex(head.root), None)) for head in heads
        ]
        proof = proofs.of_record(chain, sealed, sealed.size - 1)
        key = ledger.key.public.text
        return Release(self.sequence, ledger.run, min_rating, packed.files, key, proof, tuple(growth), packed.lists)

    def offer(self, release: Release, folder: ReleaseFolder | None = None) -> Release:
        """Sign a release as the newest one."""
        (folder or self.folder).add(release, self.key)
        return release

    def publish(self, model: ReleasedModel, ids: list[str] | None = None) -> Release:
        """Write a model, its ledger and its release."""
        place = self.model(model, ids)
        return self.offer(self.release(place, self.ledger(place)))

    @property
    def metadata(self) -> Path:
        return self.folder.path / "metadata"


def digests(model: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(model.iterdir())}


def close(ledger: Ledger, model: Path) -> None:
    """Append the record that fixes a model."""
    fixed = {f"model/{name}": digest for name, digest in digests(model).items()}
    ledger.append({"type": "files", "release": fixed, "private": {}})


def bare(path: Path) -> EdgeClient:
    """A device without a model."""
    return EdgeClient.open(path, KeyFile(path / "events.key"))


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, symlinks=True))


def changed(release: Release, **changes: object) -> Release:
    return replace(release, **changes)  # type: ignore[arg-type]


def ago(**time: int) -> datetime:
    from datetime import timedelta

    return datetime.now(UTC) - timedelta(**time)
