"""Installing a release: what is refused leaves the old model in use; hostile folders are one line."""

import ast
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fedrec_client
import pytest
import torch
from fedrec_client.edge import received_models
from fedrec_client.edge.received_models import LARGEST

from fedrec.errors import InputError, VerificationError
from tests.client.edge.devices import als, device, listed, released
from tests.client.store.stores import child, ended

HEAVY = ("torch", "flwr", "opacus", "scipy", "polars", "pydantic", "typer", "rich", "pandas", "sklearn")


def digest_in(model: Path, **changes: object) -> None:
    about = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(about | changes))


def wrong_digest(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def wrong_ids(model: Path) -> None:
    (model / "items.json").write_text((model / "items.json").read_text().replace("item-7", "item-8"))


def a_link(model: Path) -> None:
    (model / "model.safetensors").rename(model.parent / "elsewhere")
    (model / "model.safetensors").symlink_to(model.parent / "elsewhere")


def a_link_to_the_manifest(model: Path) -> None:
    (model / "manifest.json").rename(model.parent / "elsewhere")
    (model / "manifest.json").symlink_to(model.parent / "elsewhere")


def a_link_to_public_features(model: Path) -> None:
    (model / "public.safetensors").symlink_to("/etc/passwd")


def a_pipe(model: Path) -> None:
    (model / "items.json").unlink()
    os.mkfifo(model / "items.json")


def huge_manifest(model: Path) -> None:
    os.truncate(model / "manifest.json", LARGEST["manifest.json"] + 1)


def huge_tensors(model: Path) -> None:
    os.truncate(model / "model.safetensors", LARGEST["model.safetensors"] + 1)


def deep_manifest(model: Path) -> None:
    (model / "manifest.json").write_text("[" * 100_000)


def no_ids(model: Path) -> None:
    digest_in(model, items=[])


def another_kind(model: Path) -> None:
    digest_in(model, kind="alss")


def no_tensors(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    digest_in(model, sha256=hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest())


def no_numbers(model: Path) -> None:
    bad = als()
    bad.tensors()["items"].fill_(torch.nan)
    bad.tensors()["popularity"].fill_(torch.nan)
    released(bad, model.parents[1])


ATTACKS: list[tuple[Callable[[Path], None], type[Exception], str]] = [
    (wrong_digest, InputError, "SHA-256"),
    (wrong_ids, InputError, "SHA-256"),
    (a_link, VerificationError, "link"),
    (a_link_to_the_manifest, VerificationError, "link"),
    (a_link_to_public_features, VerificationError, "link"),
    (a_pipe, VerificationError, "no regular file"),
    (huge_manifest, VerificationError, "larger than"),
    (huge_tensors, VerificationError, "larger than"),
    (deep_manifest, InputError, "manifest"),
    (no_ids, InputError, "older version"),
    (another_kind, InputError, "Did you mean 'als'"),
    (no_tensors, InputError, "has no tensor"),
    (no_numbers, InputError, "makes no list"),
]


@pytest.mark.parametrize(("attack", "kind", "words"), ATTACKS, ids=[attack.__name__ for attack, *_ in ATTACKS])
def test_a_hostile_release_is_one_line_and_the_old_model_stays(
    tmp_path: Path, attack: Callable[[Path], None], kind: type[Exception], words: str
) -> None:
    with device(tmp_path / "device", released(als(), tmp_path / "run")) as client:
        client.record("item-3")
        before, about = listed(client), client.model
        run = released(als(3), tmp_path / "bad")
        attack(run / "release" / "model")
        for place in (run, run / "release", run / "release" / "model"):
            with pytest.raises(kind, match=words) as caught:
                client.install(place)
            assert "\n" not in str(caught.value)
        assert (listed(client), client.model) == (before, about)
        assert len([each for each in (tmp_path / "device" / "models").iterdir() if each.is_dir()]) == 1
    with device(tmp_path / "device") as again:
        assert listed(again) == before


def test_a_disk_without_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received_models.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with device(tmp_path / "device") as client, pytest.raises(InputError, match="no room for"):
        client.install(released(als(), tmp_path / "run"))


def test_a_kill_before_the_pointer_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step that can fail is the pointer's; whatever is left of the new model goes with the next install."""
    from fedrec_client.edge import installed

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with device(tmp_path / "device", released(als(), tmp_path / "run")) as client:
        client.record("item-3")
        before = listed(client)
        with monkeypatch.context() as patch:
            patch.setattr(installed, "replace", killed)
            patch.setattr(installed.shutil, "rmtree", lambda *_, **__: None)
            with pytest.raises(KeyboardInterrupt):
                client.install(released(als(2), tmp_path / "new"))
        with device(tmp_path / "device") as again:
            assert listed(again) == before
        client.install(tmp_path / "new")
        assert listed(client) != before
    assert len([each for each in (tmp_path / "device" / "models").iterdir() if each.is_dir()]) == 1


def test_kills_at_random_moments_leave_the_old_model_or_the_new(tmp_path: Path) -> None:
    runs = [released(als(seed), tmp_path / f"run-{seed}") for seed in (1, 2)]
    with device(tmp_path / "device", runs[0]) as client, device(tmp_path / "other", runs[1]) as other:
        for each in (client, other):
            each.record("item-3", time=1.0)
        known = [listed(client), listed(other)]
    used, pause = set(), random.Random(5)
    for turn in range(14):

        def work(writing: int, first: int = turn) -> None:
            with device(tmp_path / "device") as client:
                for step in range(1000):
                    client.install(runs[(first + step) % 2])
                    os.write(writing, b"x")

        number, reading = child(work)
        assert os.read(reading, 1) == b"x"
        time.sleep(pause.uniform(0, 0.03))
        os.kill(number, signal.SIGKILL)
        assert ended(number) == -signal.SIGKILL
        os.close(reading)
        with device(tmp_path / "device") as client:
            used.add(known.index(listed(client)))
    assert used == {0, 1}


def test_a_damaged_installed_model_is_one_line_until_it_is_installed_again(tmp_path: Path) -> None:
    run = released(als(), tmp_path / "run")
    with device(tmp_path / "device", run) as client:
        expected = listed(client)
    (tensors,) = (tmp_path / "device" / "models").glob("*/model.safetensors")
    wrong_digest(tensors.parent)
    with device(tmp_path / "device") as client:
        with pytest.raises(InputError, match=r"SHA-256.*install a release again"):
            client.recommend()
        client.install(run)
        assert listed(client) == expected
        (tmp_path / "device" / "model.json").write_text('{"name": "../../etc", "min_rating": null}')
        with pytest.raises(InputError, match="damaged; install a release again"):
            client.recommend()


def test_the_stub_has_the_same_names_from_the_same_modules() -> None:
    stub = Path(fedrec_client.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imported = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    homes = {alias.asname: node.module for node in imported for alias in node.names}
    assert sorted(homes) == fedrec_client.__all__
    for name in fedrec_client.__all__:
        assert getattr(fedrec_client, name).__module__ == homes[name]


def test_a_first_list_needs_numpy_alone(tmp_path: Path) -> None:
    """In a process of its own: open, install, record, list, explain, undo and forget."""
    run = released(als(), tmp_path / "run")
    program = (
        "import sys\n"
        "from fedrec_client import EdgeClient, Event, KeyFile, read_events\n"
        f"with EdgeClient.open({str(tmp_path / 'device')!r}, model={str(run)!r}) as client:\n"
        "    client.record('item-3')\n"
        "    client.explain(client.recommend(3)[0].item)\n"
        "    client.similar('item-3'), client.undo(), client.forget(everything=True)\n"
        "    print(len(client.recommend(3)))\n"
        f"print(sorted(set({HEAVY!r}) & {{name.split('.')[0] for name in sys.modules}}), 'numpy.ma' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3", "[] False"]
    light = "import sys, fedrec_client; print(sorted({'numpy', 'cryptography', 'sqlite3'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True).stdout == "[]\n"
