"""Units and image for a small device: what they run exists, they are closed, and they use one key and one folder."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from fedrec_client.consent.policy import DevicePolicy
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.store.key_sources import Credential

from tests.docs.test_commands import ROOT, parse

FOLDER = ROOT / "packaging" / "device"
SERVICES = sorted(FOLDER.glob("*.service"))
CLOSED = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "MemoryDenyWriteExecute": "yes",
    "UMask": "0077",
    "LimitCORE": "0",
}
"""Settings of every service. A core dump would hold the history in clear."""


def settings(file: Path) -> dict[str, list[str]]:
    """Return the settings of a unit with all their values."""
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: file.name)
def test_a_service_runs_a_command_that_exists_and_is_closed(file: Path) -> None:
    unit = settings(file)
    (command,) = unit["ExecStart"]
    command = command.replace("/opt/fedrec/bin/", "").replace("%S", "/var/lib").replace("%t", "/run")
    state = Path(str(parse(command)["state"]))
    assert state == Path("/var/lib/fedrec/device"), "below the folder, since the ledger's counter is next to it"
    assert unit["StateDirectory"] == ["fedrec"]
    assert unit["User"] == ["fedrec"]
    assert {name: unit[name][-1] for name in CLOSED} == CLOSED
    assert unit["LoadCredentialEncrypted"] == [f"{Credential().name}:/etc/fedrec/store-key.cred"]


def test_lists_are_served_without_a_network() -> None:
    unit = settings(FOLDER / "fedrec-serve.service")
    assert unit["PrivateNetwork"] == ["yes"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert unit["RuntimeDirectory"] == ["fedrec"]
    assert "--unix %t/fedrec/" in unit["ExecStart"][0]


def test_taking_part_gets_the_server_from_a_file_and_ends_in_time() -> None:
    unit = settings(FOLDER / "fedrec-participate.service")
    (command,), (place,) = unit["ExecStart"], unit["EnvironmentFile"]
    example = settings(FOLDER / Path(place).name)
    assert set(re.findall(r"\$\{(\w+)\}", command)) == set(example), "the example sets what the command uses"
    asked = parse(command.replace("/opt/fedrec/bin/", "").replace("${FEDREC_SERVER}", example["FEDREC_SERVER"][0]))
    assert asked["server"] == "fed.example.org:9092"
    (limit,) = re.findall(r"^(\d+)min$", unit["TimeoutStartSec"][0])
    assert float(str(asked["seconds"])) + 300 <= 60 * int(limit), "systemd would end a stay before its deadline"
    assert float(str(asked["seconds"])) <= 3600, "the timer starts it every hour"
    assert unit["ConditionPathExists"] == [place, f"%S/private/fedrec/device/{DeviceFolder(Path()).store.name}"]


def test_what_the_policy_asks_for_can_be_read_in_the_unit() -> None:
    """The load is in /proc/loadavg, which `ProcSubset=pid` hides: the device would never be eligible."""
    unit = settings(FOLDER / "fedrec-participate.service")
    assert DevicePolicy().load > 0
    assert unit["ProcSubset"] == ["all"]
    assert "AF_UNIX" in unit["RestrictAddressFamilies"][0], "NetworkManager is asked over a socket"


def test_each_timer_has_its_service() -> None:
    for timer in FOLDER.glob("*.timer"):
        assert timer.with_suffix(".service") in SERVICES
        assert {"OnCalendar", "RandomizedDelaySec"} <= settings(timer).keys(), "devices do not all ask at once"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("file", [*SERVICES, *FOLDER.glob("*.timer")], ids=lambda file: file.name)
def test_systemd_understands_the_unit_and_finds_it_closed(file: Path) -> None:
    checked = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    own = [line for line in checked.stderr.splitlines() if FOLDER.name in line or file.name in line]
    assert [line for line in own if "/opt/fedrec/bin/fedrec is not executable" not in line] == []
    if file in SERVICES:
        rated = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(file)]
        found = subprocess.run(rated, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout[-300:] + found.stderr


def test_the_image_installs_extras_that_exist_and_runs_as_nobody_special() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"install .*'\.\[([a-z,]+)\]'", text)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert not {"train", "simulate", "deploy", "sim"} & set(extras.split(","))
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for word in line.split()]
    assert copied
    assert all((ROOT / word).exists() for word in copied)
    assert {"pyproject.toml", "README.md", "LICENSE", "fedrec", "clients", "server", "simulations"} <= set(copied)
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER fedrec$", last, re.MULTILINE)
    assert last.index("USER fedrec") < last.index("ENTRYPOINT")
    (example,) = re.findall(r"fedrec-device (client [a-z]+)$", text, re.MULTILINE)
    assert parse(f"fedrec {example}")
