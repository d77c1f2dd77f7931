"""The environment in which Flower's processes start: nothing is sent to Flower's makers, nothing is installed, and what
Flower writes lies in a folder of ours.

Source: flwr 1.41, which reads these when it is imported.
"""

import os
from pathlib import Path

_OPENS = {"FORWARDED_ALLOW_IPS", "FLWR_INTERNAL_GRPC_CONTROL_API", "FEDREC_VIRTUAL_NODES"}
"""What would open a server or a node: whose word uvicorn takes for where a request comes from, a second Control API,
and the mark of a simulation's virtual nodes, which take every dataset for public."""


def safe_environment(folder: Path, **more: str) -> dict[str, str]:
    """That of a process whose FLWR_HOME is below `folder`; more: what it gets besides."""
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
