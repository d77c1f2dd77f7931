"""All that a store holds of its person, as JSON lines."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from fedrec.errors import InputError
from fedrec_client.store.store import Store


def export_lines(store: Store) -> Iterator[str]:
    """Yield an object a line: each event, then each private value (base64), as one consistent view.

    What was derived from the events is not among them, since it is computed from them again.
    """
    with store.transaction():
        events, states = store.events(), store.states()
    for each in events:
        event = each.event
        fields = {"item": event.item, "kind": event.kind, "time": event.time, "weight": event.weight}
        yield json.dumps({"record": "event", "number": each.number, **fields}, ensure_ascii=False)
    for name, value in states.items():
        yield json.dumps({"record": "state", "name": name, "base64": base64.b64encode(value).decode()})


def export_my_data(store: Store, file: str | Path | TextIO) -> int:
    """Write `export_lines` in clear; return the number of lines.

    Args:
        store: to export.
        file: path of a new file, mode 0600, or an open text stream.

    Raises:
        InputError: where the file exists or cannot be written; no half file is left.
    """
    lines = 0
    if not isinstance(file, str | Path):
        for line in export_lines(store):
            file.write(f"{line}\n")
            lines += 1
        return lines
    path = Path(file)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
                for line in export_lines(store):
                    out.write(f"{line}\n")
                    lines += 1
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
    except FileExistsError:
        raise InputError(f"{path}: exists already; name a new file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
    return lines
