"""`fedrec client serve` as a process: from its first line to SIGTERM."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fedrec_client import EdgeClient
from fedrec_client.serve.device_service import FILE

from tests.client.edge.devices import als, device, released
from tests.client.serve.servers import Served


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_it_is_stopped(tmp_path: Path, end: signal.Signals) -> None:
    run, state = released(als(), tmp_path / "run"), tmp_path / "device"
    device(state, run).close()
    command = [sys.executable, "-m", "fedrec.cli", "client", "serve", "--port", "0", "--state", str(state)]
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"Serving on http://127\.0\.0\.1:(\d+)\. The token is in (.+)\.\n", line)
        assert found, line
        assert found[2] == str(state / FILE)
        with EdgeClient.open(state) as client:
            server = Served(int(found[1]), Path(found[2]).read_text().strip(), client)
            assert server.ask("/v1/record", {"item": "item-3"})[0] == 200
            assert [each.event.item for each in client.events()] == ["item-3"]
            assert server.ask("/v1/recommend", {"k": 2})[0] == 200
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert (out, err) == ("", ""), "no log of requests"
