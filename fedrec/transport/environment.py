"""The environment in which Flower's processes start: nothing is sent to Flower's makers, nothing is installed, and what
Flower writes lies in a folder of ours.

Source: flwr 1.41, which reads these when it is imported.
"""

import os
from pathlib import Path


def safe_environment(folder: Path, **more: str) -> dict[str, str]:
    """That of a process whose FLWR_HOME is below `folder`; more: what it gets besides."""
    return {
        **os.environ,
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "PYTHONUNBUFFERED": "1",
        **more,
    }
