"""`fedrec serve` as a process: from its first line to SIGTERM, with TLS, a token, and another release on SIGHUP."""

import datetime
import ipaddress
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedrec.cli import run as fedrec
from fedrec.serving.command import _warn
from tests.client.edge.devices import als, released
from tests.client.edge.test_units import CLOSED, settings
from tests.docs.test_commands import ROOT, parse

ADDRESS = "127.0.0.2"
"""Of this machine alone, and none of those that `--host` takes without a warning."""


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for `ADDRESS`, and its key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return pem, secret


def test_it_serves_over_tls_reloads_on_a_signal_and_ends(tmp_path: Path) -> None:
    pem, secret = certificate(tmp_path)
    current, token = tmp_path / "current", tmp_path / "token"
    current.symlink_to(released(als(0), tmp_path / "first"))
    command = [sys.executable, "-m", "fedrec.cli", "serve", str(current), "--port", "0", "--token-file", str(token)]
    command += ["--certificate", str(pem), "--key", str(secret), "--access-log", "--host", ADDRESS]
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    trusted = ssl.create_default_context(cafile=str(pem))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith(f"warning: --host {ADDRESS}: machines")
        line = process.stderr.readline()
        assert line.startswith("Serving als, "), line
        port = line.split(f"{ADDRESS}:")[1].split(".")[0]

        def ask() -> dict[str, Any]:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token.read_text().strip()}"}
            url, body = f"https://{ADDRESS}:{port}/v1/recommend", b'{"history": ["item-3"]}'
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), context=trusted) as answer:
                found: dict[str, Any] = json.load(answer)
                return found

        first = ask()["model"]
        assert process.stderr.readline().startswith("recommend 200 ")
        current.unlink()
        current.symlink_to(released(als(1), tmp_path / "second"))
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline().startswith("reloaded: als")
        assert ask()["model"] != first
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    assert err.startswith("recommend 200 ")
    assert "item" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--certificate", "c.pem"], "needs both"),
        (["--certificate", "c.pem", "--key", "k.pem"], "no such file"),
        (["--host", "999.1.1.1"], "no address"),
        (["--allow-origin", "*"], "no origin"),
        (["--watch", "0"], "range"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = released(als(), tmp_path / "run")
    assert fedrec(["serve", str(run), "--port", "0", *options]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1


def test_a_run_without_a_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fedrec(["serve", str(tmp_path)]) == 2
    assert "no released model" in capsys.readouterr().err


def test_another_address_without_tls_and_token_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    _warn("192.0.2.1", tls=False, token=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["warning"] * 3
    assert "sees their histories" in lines[0]


def test_unit_and_image_run_what_exists_and_are_closed() -> None:
    unit = settings(ROOT / "packaging/serve/fedrec-serve.service")
    assert {name: unit[name][0] for name in CLOSED} == CLOSED
    assert parse(unit["ExecStart"][0].removeprefix("/opt/fedrec/bin/"))["watch"] == 10
    image = (ROOT / "packaging/serve/Dockerfile").read_text(encoding="utf-8")
    words = [json.loads(line.partition(" ")[2]) for line in image.splitlines() if line.startswith(("CMD", "ENTRY"))]
    assert parse(" ".join(["fedrec", words[0][1], *words[1]]))["host"] == "0.0.0.0"
    copied = re.findall(r"^COPY (\w+) \1$", image, re.MULTILINE)
    assert set(copied) == {"fedrec", "clients", "server", "simulations"}
