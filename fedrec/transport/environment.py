"""The environment of Flower's processes: no telemetry, no installation, and a folder of ours for Flower's files.

Source: flwr 1.41, which reads these variables when it is imported.
"""

import os
from pathlib import Path

_OPENS = {"FORWARDED_ALLOW_IPS", "FLWR_INTERNAL_GRPC_CONTROL_API", "FEDREC_VIRTUAL_NODES"}
"""Variables that would open a server or a node, and are removed: the proxies whose statement of a request's origin
uvicorn accepts, a second Control API, and the mark of a simulation's virtual nodes, which treat all data as public."""


def safe_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process whose FLWR_HOME is below `folder`, with the variables `more`."""
    return {
        **{name: value for name, value in os.environ.items() if name not in _OPENS},
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }
