"""A compressed release: its source verifies, and its record ties its model to the one that the source's ledger names.

The ledger of a run names the digests of the model that it released. A compressed model has others, and no budget was
spent on it: it is made of the released one alone. `derivation.json` names both by their digests, and the steps between
them. Here the digests are compared; `fedrec compress --check` takes the steps again and compares every byte.
"""

import json
from pathlib import Path

from fedrec.audit.entries.account import account
from fedrec.audit.evidence.received_run import Evidence
from fedrec.audit.log import chain as chains
from fedrec.errors import InputError
from fedrec.received_files import digest_below, read_below

DERIVATION = "derivation.json"
SOURCE = "source.zip"
_LARGEST = 1 << 20
_FILES = ("manifest.json", "model.safetensors")


def derived_release(path: Path) -> Path | None:
    """Return the folder with the record of a compressed release, or None for another run."""
    return next((place for place in (path, path / "release") if (place / DERIVATION).is_file()), None)


def source_of(release: Path) -> Path:
    """Return the export of the source. Raises: InputError where there is none."""
    if not (release / SOURCE).is_file():
        raise InputError(f"{release}: was made of a model without a ledger, so no budget of it can be verified")
    return release / SOURCE


def faults(release: Path, source: Evidence) -> list[str]:
    """Return what does not fit, a line each.

    Args:
        release: of `derived_release`.
        source: the export of the source, as `received` reads it.
    """
    content = read_below(release, DERIVATION, _LARGEST)
    try:
        record = json.loads(content or b"")
        of, made = record["source"], {"manifest.json": record["manifest"], "model.safetensors": record["model"]}
        named = {"manifest.json": of["manifest"], "model.safetensors": of["model"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return [f"{DERIVATION}: is no record of a compressed model"]
    found = []
    chain = chains.read(source.ledger)
    closing = None if chain.fault else account([each.payload for each in chain.records]).files
    fixed = {} if closing is None else closing.release
    for name in _FILES:
        if fixed.get(f"model/{name}") != named[name]:
            found.append(f"{DERIVATION}: the ledger of the source names another {name}")
        if digest_below(release, f"model/{name}") != made[name]:
            found.append(f"model/{name} is not the file that {DERIVATION} names")
    if digest_below(release, "model/items.json") != fixed.get("model/items.json"):
        found.append("model/items.json is not that of the source")
    if digest_below(release, "privacy/statement.json") not in (None, fixed.get("privacy/statement.json")):
        found.append("privacy/statement.json is not that of the source")
    return found


def note(release: Path) -> str:
    """Return a line that describes how the model was made."""
    record = json.loads(read_below(release, DERIVATION, _LARGEST) or b"{}")
    steps = {name: value for name, value in record.get("steps", {}).items() if value is not None}
    return (
        f"the model was made of the released one: {json.dumps(steps, sort_keys=True)}; "
        "`fedrec compress SOURCE --check` with this folder takes these steps again"
    )
