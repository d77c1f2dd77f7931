"""Status of a running server: its nodes and its runs."""

from pathlib import Path
from typing import Any

from fedrec.transport.control import control
from fedrec.transport.state import State
from fedrec_server.pki.admission import Admission
from fedrec_server.process.link import CONTROL_SECRET


def server_status(state: State) -> dict[str, Any]:
    """Return the status of a server, JSON-able.

    Returns: `running`, and for a running server `address`, `pid`, `nodes`, `plugins` (the
        names that runs may use), and `runs`, the newest first.
    Raises: InputError when the server does not answer.
    """
    from flwr.proto.control_pb2 import ListRunsRequest

    facts = state.running()
    if facts is None:
        return {"running": False, "nodes": [], "runs": [], "plugins": []}
    secret = (state.path / CONTROL_SECRET).read_text(encoding="ascii")
    with control(facts["address"], Path(facts["ca"]), secret) as client:
        nodes = [{"name": node.name, "status": node.status} for node in Admission(client).nodes() if not node.gone]
        runs = client.ListRuns(ListRunsRequest()).run_dict.values()
    listed = [
        {
            "id": run.run_id,
            "status": run.status.sub_status or run.status.status,
            "out": run.override_config["out"].string,
        }
        for run in sorted(runs, key=lambda run: run.pending_at, reverse=True)
    ]
    return {
        "running": True,
        "address": facts["address"],
        "pid": facts["pid"],
        "nodes": nodes,
        "runs": listed,
        "plugins": facts.get("plugins", []),
    }
