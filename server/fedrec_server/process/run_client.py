"""The client of a run: it submits the run to a server, follows its rounds, and stops it on Ctrl-C."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedrec.errors import FedrecError, InputError
from fedrec.transport.control import control
from fedrec.transport.executor import OURS, Apps
from fedrec.transport.state import State
from fedrec_server.process.link import CONTROL_SECRET
from fedrec_server.process.run_events import read_events

POLL_SECONDS, ASK_SECONDS = 0.1, 1.0
FINISHED, UNKNOWN = "finished", "unknown"
SILENT_END = (
    "the run ended without a reason; see the server's app.log, and continue with --resume: finished rounds are saved"
)
GONE = "the server does not answer; start it again, and continue with --resume: finished rounds are saved"
LINGER_SECONDS, GONE_SECONDS = 5.0, 60.0
"""Seconds to wait for the end event of a run that Flower calls finished, and for a server that does not answer."""


class RunFailed(FedrecError):
    """Failure of a run over nodes, with the run's exit code."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.exit_code = code


class RunClient:
    """One run over a running server."""

    def __init__(
        self, state: State, config: dict[str, Any], on_event: Callable[[dict[str, Any]], None], apps: Apps = OURS
    ) -> None:
        """Submit the run.

        Args:
            state: the state folder of the server.
            config: the run's configuration (see `fedrec_server.app`); the key `told` is added.
            on_event: called with each event of the run (see `fedrec_server.process.run_events`).
            apps: the Flower apps of the run.
        Raises: InputError when no server runs with that state.
        """
        server = state.running()
        if server is None:
            raise InputError(f"--state {state.path}: no server runs there; start one with `fedrec server start`")
        self.address, self._ca = server["address"], Path(server["ca"])
        self._secret = (state.path / CONTROL_SECRET).read_text(encoding="ascii")
        runs = state.path / "runs"
        runs.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(".jsonl", time.strftime("%Y%m%d-%H%M%S-"), runs)
        os.close(handle)
        self._events, self._on_event, self._read = Path(name), on_event, 0
        self._end: dict[str, Any] | None = None
        with self._control() as link:
            self.id = _start(link, config | {"told": str(self._events)}, apps)

    def follow(self) -> str:
        """Follow the run to its end, and return its folder. Raises: RunFailed."""
        try:
            checked = alive = time.monotonic()
            while True:
                self._listen()
                if self._end is not None:
                    break
                now = time.monotonic()
                if now - checked > ASK_SECONDS:
                    checked, status = now, self._status()
                    alive = now if status not in (FINISHED, UNKNOWN) else alive
                    if now - alive > (LINGER_SECONDS if status == FINISHED else GONE_SECONDS):
                        raise RunFailed(1, SILENT_END if status == FINISHED else GONE)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stop()
            raise
        if self._end["code"]:
            raise RunFailed(self._end["code"], self._end["line"])
        return str(self._end["line"])

    def stop(self) -> None:
        """Stop the run. Its finished rounds are on disk."""
        from flwr.proto.control_pb2 import StopRunRequest

        with self._control() as link:
            link.StopRun(StopRunRequest(run_id=self.id))

    def _listen(self) -> None:
        for read, event in read_events(self._events, self._read):
            self._read = read
            if "code" in event:
                self._end = event
            self._on_event(event)

    def _status(self) -> str:
        from flwr.proto.control_pb2 import ListRunsRequest

        try:
            with self._control() as link:
                found = link.ListRuns(ListRunsRequest(run_id=self.id)).run_dict
        except InputError:  # the link is being started again, or gone
            return UNKNOWN
        return str(found[self.id].status.status) if self.id in found else FINISHED

    def _control(self) -> Any:
        return control(self.address, self._ca, self._secret)


def _start(link: Any, config: dict[str, Any], apps: Apps) -> int:
    import hashlib

    from flwr.common.serde import fab_to_proto, user_config_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.fab import Fab

    content = app_bundle(apps, config)
    fab = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
    answer = link.StartRun(StartRunRequest(fab=fab, override_config=user_config_to_proto(config)))
    return int(answer.run_id)


def app_bundle(apps: Apps, config: dict[str, Any]) -> bytes:
    """Build the app (a FAB) that Flower sends to the nodes: names of installed modules and a licence, without code.

    Code in the bundle would precede the installed package on each node's path.

    Args:
        apps: the Flower apps.
        config: the run's configuration. Flower requires a default for each of its keys.
    """
    from flwr.cli.build import build_fab_from_files

    from fedrec import __version__

    lines = [
        "[project]",
        'name = "fedrec"',
        f'version = "{__version__}"',
        'license = "Apache-2.0"',
        'dependencies = ["flwr>=1.41"]',
        "[tool.flwr.app]",
        'publisher = "fedrec"',
        'fab-include = ["LICENSE"]',
        "[tool.flwr.app.components]",
        f'serverapp = "{apps.server}"',
        f'clientapp = "{apps.client}"',
        "[tool.flwr.app.config]",
        *(f"{name} = {json.dumps(type(value)())}" for name, value in config.items()),
    ]
    bundle: bytes = build_fab_from_files({"pyproject.toml": "\n".join(lines).encode(), "LICENSE": b"Apache-2.0\n"})[0]
    return bundle
