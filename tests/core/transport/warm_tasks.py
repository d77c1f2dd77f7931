"""Drives a `WarmExecutor` with tasks of our own and prints what became of them; it forks, so it is a process."""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fedrec.transport import interfaces
from fedrec.transport.warm import WarmExecutor
from tests.server.faults import until


def task(folder: Path, what: str, *, client: bool = True) -> Any:
    """A specification as Flower's, whose token says what its process shall do."""
    return SimpleNamespace(
        token=what, runtime_api_address=str(folder), root_certificates_path=None, insecure=True, client=client
    )


def work(spec: Any, app: Any) -> None:
    """In the child: leave a note, then do what the token says."""
    kept.append(spec.token)
    note = {"process": os.getpid(), "app": app, "so far": kept}
    Path(spec.runtime_api_address, f"{len(list(Path(spec.runtime_api_address).iterdir()))}").write_text(
        json.dumps(note)
    )
    if spec.token == "raise":
        raise ValueError("something about somebody")
    if spec.token == "die":
        os.kill(os.getpid(), 9)
    if spec.token == "hang":
        time.sleep(60)


def failed(spec: Any) -> None:
    """In the child that reports a death."""
    Path(spec.runtime_api_address, "reported").write_text(spec.token)


def main(folder: Path) -> None:
    interfaces.is_client_task = lambda spec: spec.client
    interfaces.run_client_task = interfaces.run_server_task = work
    interfaces.report_failure = failed
    executor = WarmExecutor("the installed app")
    executor.launch(task(folder, "die", client=False))
    until(lambda: executor.reconcile() or (folder / "reported").exists())
    executor.launch(task(folder, "hang", client=False))
    until((folder / "2").exists)  # "0" died, "reported" is the second file
    for number, what in enumerate(["answer", "answer", sys.argv[2]], start=3):
        executor.launch(task(folder, what))
        until(lambda number=number: (folder / str(number)).exists())
    time.sleep(0.2)  # the child has died and nobody has looked: its pipe is broken
    looked = executor.reconcile
    if sys.argv[3] == "unseen":
        executor.reconcile = lambda: None
    try:
        executor.launch(task(folder, "answer"))
        code = None
    except SystemExit as ended:
        code = ended.code
    executor.reconcile = looked
    began = time.monotonic()
    executor.close()
    left = [pid for pid in executor._children if Path(f"/proc/{pid}").exists()]
    notes = [json.loads((folder / str(n)).read_text()) for n in (0, 2, 3, 4, 5)]
    told = {"notes": notes, "reported": (folder / "reported").read_text(), "code": code, "left": left}
    print(json.dumps(told | {"closed": time.monotonic() - began}))


kept: list[str] = []

if __name__ == "__main__":
    main(Path(sys.argv[1]))
