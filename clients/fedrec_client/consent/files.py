"""The files of a node's consent: policy, device ledger and counter, made, checked before the start, and begun anew."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fedrec.durable import replace, sync
from fedrec.errors import InputError
from fedrec_client.consent.device_ledger import FILE, DeviceLedger, counter_of
from fedrec_client.consent.policy import Policy, load, parse

POLICY = "policy.toml"


def default_folder() -> Path:
    """Return the folder of a node that names none."""
    return Path.home() / ".fedrec" / "client"


def prepared(folder: Path, file: Path | None, say: Callable[[str], None]) -> dict[str, str]:
    """Return the configuration of a node's policy; policy and ledger are read once, so that a fault shows now.

    Args:
        folder: the node's own, where the ledger is; the counter is next to it.
        file: the policy; None for `policy.toml` in the folder, which is made with the defaults where it is missing.
        say: called with a line where lines of the ledger are missing.
    Raises: InputError for a policy that cannot be used; VerificationError for a damaged ledger.
    """
    place = folder / POLICY if file is None else file.absolute()
    if file is None and not place.exists():
        write_policy(place, Policy())
    ledger = DeviceLedger(folder / FILE, load(place))
    ledger.open()
    if ledger.blocked_until is not None:
        until = datetime.fromtimestamp(ledger.blocked_until, UTC).strftime("%Y-%m-%d")
        say(f"{ledger.path}: lines are missing, so this node contributes only zeros until {until}")
    return {"policy": str(place)}


def write_policy(file: Path, policy: Policy) -> None:
    """Write a policy to a new file, mode 0600. Raises: InputError where something is there, or it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(file, "x", opener=lambda name, flags: os.open(name, flags, 0o600), encoding="utf-8") as made:
            made.write(policy.text())
    except FileExistsError:
        raise InputError(f"{file}: exists already; edit it, or name another file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None


def policy_of(folder: Path) -> Policy:
    """Return the policy in a node's own folder; the defaults where there is none. Raises: InputError."""
    return load(folder / POLICY) if (folder / POLICY).exists() else Policy()


def write_opted_out(folder: Path, out: bool) -> None:
    """Set `data.opted_out` of the policy in a node's own folder, which is made where it is missing.

    Other settings stay, and comments where the file has a line of it. A running node reads it at the next question.

    Raises: InputError for a policy that cannot be used or written.
    """
    file, policy = folder / POLICY, policy_of(folder)
    wanted = dataclasses.replace(policy, data=dataclasses.replace(policy.data, opted_out=out))
    if not file.exists():
        write_policy(file, wanted)
        return
    text = file.read_text(encoding="utf-8-sig")
    changed = re.sub(r"(?m)^(\s*opted_out\s*=\s*)(true|false)", rf"\g<1>{str(out).lower()}", text)
    try:
        kept = parse(changed, str(file)) == wanted
    except InputError:
        kept = False
    try:
        replace(file, (changed if kept else wanted.text()).encode(), mode=0o600)
        sync(folder)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror})") from None


def renewed(path: Path) -> Path:
    """Put a ledger aside and begin a new one. Its counter stays ahead, so that the period counts as spent in full.

    Returns: where the old ledger is now.
    Raises: InputError where there is none.
    """
    if not path.exists():
        raise InputError(f"{path}: no device ledger; a node makes one when it starts")
    kept = path.with_name(f"{path.name}.{time.strftime('%Y%m%dT%H%M%S')}.damaged")
    lines = path.read_bytes().count(b"\n")
    counter = counter_of(path)
    try:
        stated = json.loads(counter.read_bytes())
        n, when = int(stated["n"]), int(stated["time"])
    except (OSError, ValueError, KeyError, TypeError):
        n, when = 0, 0
    os.rename(path, kept)
    ahead = {"n": max(n, lines), "head": "", "time": max(when, int(time.time()))}
    replace(counter, json.dumps(ahead).encode(), mode=0o600)
    sync(counter.parent)
    DeviceLedger(path, Policy()).open()
    return kept
