"""The folder of a device, which is also the folder of its node (`fedrec client start --state`).

DEVICE/                   mode 0700
  events.store            the encrypted store (-wal and -shm while it is open)
  events.key              its key file, where no other source of a key was chosen
  model.json              which folder of `models/` is in use
  models/NAME/            model.safetensors, manifest.json, items.json; public.safetensors where it was given;
                          index, which is derived from the model
  releases/               what `sync` keeps: pinned keys, trusted metadata, unfinished downloads
  http-token              the secret of `fedrec client serve`, where it was used
  policy.toml             what the node agrees to
  device-ledger.jsonl     what the device paid
DEVICE.counter            shows an older copy of the ledger
DEVICE.mark               shows an older copy of the store
"""

from dataclasses import dataclass
from pathlib import Path

from fedrec.errors import InputError


@dataclass(frozen=True)
class DeviceFolder:
    """The places in a device's folder; none of the names says anything about the person.

    Attributes:
        path: of the folder, absolute.
    """

    path: Path

    @property
    def store(self) -> Path:
        """The encrypted store."""
        return self.path / "events.store"

    @property
    def pointer(self) -> Path:
        """The file that names the model in use."""
        return self.path / "model.json"

    @property
    def models(self) -> Path:
        """The folder of installed models."""
        return self.path / "models"

    def make(self) -> None:
        """Make the folder, mode 0700, unless it exists; a folder that is there keeps its mode.

        Raises:
            InputError: when it cannot be made, or is a file.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except FileExistsError:
            raise InputError(f"{self.path}: is a file; name the device's folder, which holds its store") from None
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made ({error.strerror}); choose another folder") from None
