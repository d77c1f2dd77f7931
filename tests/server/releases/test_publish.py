"""`fedrec server publish`, `renew` and `rotate`, with real runs, and `fedrec client sync` at the other end."""

import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from fedrec_client.edge.layout import DeviceFolder
from fedrec_server.releases import publish
from fedrec_server.releases.roles import RoleKeys

import fedrec
from fedrec.audit.evidence.received_run import received
from fedrec.audit.log.keys import MARKS_VARIABLE, default_key, load_key, new_key
from fedrec.audit.log.ledger import Ledger
from fedrec.cli import run
from fedrec.errors import InputError, VerificationError
from fedrec.releases import proven
from fedrec.releases.record import Release, parsed
from tests.client.releases.web_server import Web


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs of one scenario."""
    folder = tmp_path_factory.mktemp("runs")
    data = fedrec.load_dataset("quickstart", users=60, items=40)
    for seed in (1, 2):
        fedrec.simulate("popularity", data, epsilon=4, delta=1e-5, seed=seed, out=folder / str(seed), progress=False)
    return [folder / "1", folder / "2"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path / "web") as server:
        server.start()
        yield server
        server.shutdown()


def newest(folder: Path) -> Release:
    files = (folder / "targets").iterdir()
    return max((parsed(file.read_bytes()) for file in files), key=lambda release: release.sequence)


def command(words: str, capsys: pytest.CaptureFixture[str], expected: int = 0) -> str:
    code = run(words.split())
    said = capsys.readouterr()
    assert code == expected, said.err
    return said.out if code == 0 else said.err


def test_a_run_is_published_fetched_and_replaced(
    runs: list[Path], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device, key = tmp_path / "device", default_key().public.text
    said = command(f"server publish {runs[0]} {web.root}", capsys)
    assert f"--key {key}" in said
    assert run(f"client sync --url {web.url} --key {key} --state {device}".split()) == 0
    shown = capsys.readouterr()
    assert "Release 1 of run" in shown.out
    assert "(100 %)" in shown.err, "progress"
    first = command(f"client recommend -k 5 --state {device} --json", capsys)
    assert [each["item"] for each in json.loads(first)] == [item for item, _ in newest(web.root).lists[0].items[:5]], (
        "the device's list is the publisher's"
    )
    assert "already" in command(f"client sync --state {device}", capsys)
    command(f"server publish {runs[1]}/release {web.root}", capsys)
    found = json.loads(command(f"client sync --state {device} --json --quiet", capsys))
    assert (found["changed"], found["sequence"]) == (True, 2)
    assert found["downloaded"] < found["size"], "the ids of the items are the same"
    assert DeviceFolder(device).pointer.is_file()


def test_what_a_device_reads_of_the_scenario(runs: list[Path], tmp_path: Path) -> None:
    evidence = received(runs[0])
    assert publish._min_rating(evidence) is None
    text = evidence.files["scenario.toml"].replace(b"[data]", b"[data]\nmin_rating = 3.5", 1)
    assert publish._min_rating(type(evidence)("", {"scenario.toml": text}, {})) == 3.5


@pytest.mark.parametrize("damage", ["model", "ledger", "scenario"])
def test_a_run_that_does_not_verify_is_not_published(
    runs: list[Path], web: Web, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Path(shutil.copytree(runs[0], tmp_path / "bad"))
    file = {
        "model": bad / "release/model/model.safetensors",
        "ledger": bad / "release/privacy/ledger.jsonl",
        "scenario": bad / "release/scenario.toml",
    }[damage]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = command(f"server publish {bad} {web.root}", capsys, expected=4)
    assert "not published" in said
    assert not (web.root / "metadata" / "1.root.json").exists()
    command(f"server publish {runs[0]} {web.root}", capsys)
    before = sorted(web.root.rglob("*"))
    command(f"server publish {bad} {web.root}", capsys, expected=4)
    assert sorted(web.root.rglob("*")) == before


def test_a_run_of_another_key_needs_that_key(
    runs: list[Path], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key(tmp_path / "release.pem")
    said = command(f"server publish {runs[0]} {web.root} --key {tmp_path}/release.pem", capsys, expected=4)
    assert "not signed by the key" in said
    ledger = default_key().public.text
    command(f"server publish {runs[0]} {web.root} --key {tmp_path}/release.pem --ledger-key {ledger}", capsys)
    said = command(f"server publish {runs[1]} {web.root} --ledger-key {ledger}", capsys, expected=2)
    assert f"its release key is {key.public.id}" in said


def test_a_run_without_an_end_is_not_published(runs: list[Path], web: Web, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(runs[0], tmp_path / "cut"))
    ledger = cut / "release/privacy/ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(VerificationError, match="not published"):
        publish.verified(cut, default_key().public)


def test_witnesses_are_demanded_and_handed_on(
    runs: list[Path], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = Path(shutil.copytree(runs[0], tmp_path / "seen"))
    witness, own = new_key(tmp_path / "witness.pem"), default_key().public.text
    pin = f"--witness {witness.public.text}"
    said = command(f"server publish {seen} {web.root} {pin}", capsys, expected=4)
    assert "has cosigned no checkpoint" in said
    memory = f"--witness-key {tmp_path}/witness.pem --memory {tmp_path}/memory"
    command(f"audit witness {seen} --key {own} {memory}", capsys)
    command(f"server publish {seen} {web.root} {pin}", capsys)
    command(f"client sync --url {web.url} --key {own} {pin} --state {tmp_path}/device", capsys)
    command(f"server publish {runs[1]} {web.root}", capsys)
    assert "has not cosigned" in command(f"client sync --state {tmp_path}/device", capsys, expected=4)


def test_an_earlier_head_of_the_same_run_is_not_published(
    runs: list[Path], web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher's own folder remembers the head, as devices do; a run that grew is published with a proof."""
    monkeypatch.setenv(MARKS_VARIABLE, str(tmp_path / "marks"))
    folder, key = publish.ReleaseFolder(web.root), default_key()
    grown = Path(shutil.copytree(runs[0], tmp_path / "grown"))
    with folder.alone():
        folder.begin([key], RoleKeys((key.public,), 1, key.public, (key.public,)))
        first = publish.publish(runs[0], folder, key, key.public)
        again = publish.publish(runs[0], folder, key, key.public)
        assert again.new_bytes == 0
        assert publish.published_heads(again.release) == publish.published_heads(first.release)
        ledger = Ledger(grown / "release/privacy/ledger.jsonl", key)
        ledger.append(ledger.entries[-1].payload)
        ledger.seal()
        second = publish.publish(grown, folder, key, key.public)
        assert len(publish.published_heads(second.release)) == 2
        monkeypatch.setenv(MARKS_VARIABLE, str(tmp_path / "no marks"))
        with pytest.raises(VerificationError, match="forked or rolled back"):
            publish.publish(runs[0], folder, default_key(), key.public)
        with pytest.raises(VerificationError, match="forked or rolled back"):
            proven.check(first.release, [key.public], publish.published_heads(second.release)[-1])


def test_old_releases_leave_the_folder(
    runs: list[Path], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device that missed some finds the newest one, and its parts."""
    key = default_key().public.text
    for number in range(3):
        command(f"server publish {runs[number % 2]} {web.root} --keep 2", capsys)
        if number == 0:
            command(f"client sync --url {web.url} --key {key} --state {tmp_path}/device", capsys)
    assert len(list((web.root / "targets").iterdir())) == 2
    assert sorted(file.name for file in (web.root / "metadata").glob("*.targets.json")) == [
        "2.targets.json",
        "3.targets.json",
    ]
    named = {part.sha256 for file in newest(web.root).files for part in file.parts}
    assert named <= {file.name for file in (web.root / "parts").iterdir()}
    command(f"server publish {runs[0]} {web.root} --keep 1", capsys)
    assert {part.sha256 for file in newest(web.root).files for part in file.parts} == {
        file.name for file in (web.root / "parts").iterdir()
    }
    assert "Release 4" in command(f"client sync --state {tmp_path}/device", capsys)


def test_keys_are_rotated_by_command(
    runs: list[Path], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [new_key(tmp_path / f"root-{n}.pem") for n in range(4)]
    own, given = default_key().public.text, [f"--root-key {tmp_path}/root-{n}.pem" for n in range(3)]
    command(f"server publish {runs[0]} {web.root} {given[0]} {given[1]} --threshold 2", capsys)
    pins = " ".join(f"--key {key.public.text}" for key in roots[:2])
    command(f"client sync --url {web.url} {pins} --state {tmp_path}/device", capsys)
    new_key(tmp_path / "next.pem")
    change = f"--new-key {tmp_path}/next.pem --new-root-key {tmp_path}/root-2.pem --new-root-key {tmp_path}/root-3.pem"
    said = command(f"server rotate {web.root} {given[0]} {change}", capsys, expected=2)
    assert "its root needs 2 of its keys to sign, and 1 are here" in said
    assert "root 2 is in force" in command(f"server rotate {web.root} {given[0]} {given[1]} {change}", capsys)
    assert load_key(tmp_path / "next.pem").public.id in command(f"server renew {web.root}", capsys, expected=2)
    assert "valid until" in command(f"server renew {web.root} --key {tmp_path}/next.pem", capsys)
    command(f"server publish {runs[1]} {web.root} --key {tmp_path}/next.pem --ledger-key {own}", capsys)
    assert "Release 2" in command(f"client sync --state {tmp_path}/device", capsys)
    said = command(f"server publish {runs[1]} {web.root} {given[0]}", capsys, expected=2)
    assert "has its root keys already" in said


def test_an_empty_folder_is_one_line(
    runs: list[Path], web: Web, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "holds no releases" in command(f"server renew {tmp_path}/none", capsys, expected=2)
    assert "--new-key" in command(f"server rotate {tmp_path}/none", capsys, expected=2)
    key = default_key()
    folder = publish.ReleaseFolder(web.root)
    with folder.alone():
        folder.begin([key], RoleKeys((key.public,), 1, key.public, ()))
        with pytest.raises(InputError, match=f"does not name the ledger's key {key.public.id}; add it"):
            publish.publish(runs[0], folder, key, key.public)
    with pytest.raises(InputError, match="threshold 3: must be 1 to 1"):
        RoleKeys((default_key().public,), 3, default_key().public, ())


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    text = command("server publish --help", capsys)
    for word in ("fedrec client sync", "fedrec server renew", "--root-key", "must verify"):
        assert word in " ".join(text.split())
