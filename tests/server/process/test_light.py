"""Commands that make keys, and processes that only start others, do without PyTorch: it costs seconds."""

import subprocess
import sys

LIGHT = (
    *("fedrec_server.commands", "fedrec_server.pki.commands", "fedrec_server.pki.key_making"),
    *("fedrec_server.process.link", "fedrec_server.process.gate", "fedrec_server.process.daemon"),
    *("fedrec_server.process.status", "fedrec_server.process.run_client"),
    *("fedrec_server.helper.commands", "fedrec_server.helper.process", "fedrec_server.helper.named"),
    *("fedrec_client.commands", "fedrec_client.hosting", "fedrec.transport.supernode"),
    *("fedrec_client.consent.files", "fedrec.data.public", "fedrec.transport.state"),
)


def test_what_starts_others_loads_no_numbers() -> None:
    program = (
        "import importlib, sys\n"
        f"for module in {LIGHT!r}: importlib.import_module(module)\n"
        "print(sorted({'torch', 'scipy', 'opacus'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
