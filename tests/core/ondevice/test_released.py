"""The folder of a released model on a device: what is imported, which form is used, which files are refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedrec.algorithms.als import ALSModel
from fedrec.algorithms.discover import _built_in
from fedrec.errors import InputError, VerificationError
from fedrec.model import ReleasedModel
from fedrec.ondevice.history import History
from fedrec.ondevice.released import FORMS, WITHOUT_FORM, form_of, load
from fedrec.testing.ondevice import save_released

HEAVY = ("torch", "flwr", "opacus", "scipy", "polars", "pydantic", "pandas", "safetensors", "rich", "typer")


def als(items: int = 50, dim: int = 6) -> ALSModel:
    table = torch.randn(items, dim, generator=torch.Generator().manual_seed(0))
    return ALSModel(table, table.T @ table, torch.arange(float(items)), alpha0=0.3, reg=0.01, nu=1.0)


def test_a_list_needs_numpy_alone(tmp_path: Path) -> None:
    """In a process of its own: the forms of all kinds are imported, a model is opened, and a list is made."""
    folder = save_released(als(), tmp_path / "model")
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fedrec.ondevice.history import History\n"
        "from fedrec.ondevice.released import FORMS, form_of, load\n"
        "for kind in FORMS: form_of(kind)\n"
        f"model = load(Path({str(folder)!r}))\n"
        "print(model.top(model.fit(History(np.array([3, 4]))), 5)[0].tolist())\n"
        f"print(sorted(set({HEAVY!r}) & {{name.split('.')[0] for name in sys.modules}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed, imported = done.stdout.splitlines()
    model = load(folder)
    assert listed == str(model.top(model.fit(History(np.array([3, 4]))), 5)[0].tolist())
    assert imported == "[]"


def test_every_built_in_kind_has_a_form_or_a_reason() -> None:
    kinds = _built_in(ReleasedModel)
    assert set(kinds) == set(FORMS) | set(WITHOUT_FORM)
    assert not set(FORMS) & set(WITHOUT_FORM)
    assert all(form_of(kind).kind == kind and kinds[kind].in_double for kind in FORMS)


def test_an_unknown_kind_is_one_line(tmp_path: Path) -> None:
    folder = save_released(als(), tmp_path)
    about = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(about | {"kind": "spectrall"}))
    with pytest.raises(InputError, match=r"kind 'spectrall': has no form for devices.*Did you mean 'spectral'"):
        load(folder)


def broken(folder: Path, content: bytes) -> None:
    """Put `content` in the place of the tensors, with a manifest that names it."""
    import hashlib

    about = json.loads((folder / "manifest.json").read_text())
    (folder / "model.safetensors").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(about | {"sha256": hashlib.sha256(content).hexdigest()}))


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model here"):
        load(tmp_path)
    folder = save_released(als(), tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1] + b"x")
    with pytest.raises(InputError, match="SHA-256"):
        load(folder)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    for content in (
        b"",
        whole[:5],
        whole[:-4],  # ends before its tensors do
        (1 << 60).to_bytes(8, "little") + whole[8:],
        whole[:8] + b"x" * length + whole[8 + length :],
        *(
            len(text).to_bytes(8, "little") + text + whole[8 + length :]
            for text in (
                json.dumps(header | {"items": header["items"] | {"dtype": "F128"}}).encode(),
                json.dumps(header | {"items": header["items"] | {"shape": [-1, 6]}}).encode(),
                json.dumps(header | {"items": header["items"] | {"shape": [51, 6]}}).encode(),
                json.dumps({name: about for name, about in header.items() if name != "gram"}).encode(),
                b"[" * length,
                b"[]",
            )
        ),
    ):
        broken(folder, content)
        with pytest.raises(InputError) as error:
            load(folder)
        assert "\n" not in str(error.value)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/etc/hostname")
    with pytest.raises(VerificationError, match="link"):
        load(folder)


def test_items_outside_the_catalogue_are_refused(tmp_path: Path) -> None:
    model = load(save_released(als(), tmp_path))
    for item in (-1, 50):
        with pytest.raises(InputError, match=r"outside 0\.\.49"):
            model.fit(History(np.array([3, item])))
        with pytest.raises(InputError, match=r"outside 0\.\.49"):
            model.record(model.fit(History()), item)
