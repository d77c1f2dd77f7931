"""A compressed release: its folder, its record, and the check that makes it anew.

| file below OUT/release | what |
|---|---|
| model/ | the compressed model; devices, `fedrec serve` and `fedrec recommend` read it as any other |
| derivation.json | the source's digests, the steps, and the digests of the result |
| source.zip | `fedrec audit export` of the source, where it has a ledger, which covers the source alone |
| privacy/statement.json | of the source: what is made of a released model alone has its guarantee |
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from fedrec import __version__
from fedrec.audit.evidence import received_run
from fedrec.audit.evidence.layout import Layout
from fedrec.audit.verify import derived
from fedrec.audit.verify.derived import DERIVATION, SOURCE
from fedrec.compress.packing import files_of, packed
from fedrec.compress.settings import Derivation, Source, Steps
from fedrec.errors import InputError, VerificationError
from fedrec.ondevice.index_file import read_ids
from fedrec.ondevice.packed_file import PackedFile
from fedrec.ondevice.released import model_folder, read_manifest
from fedrec.ondevice.tensor_file import TensorFile
from fedrec.received_files import digest_below, read_below

_LARGEST = 1 << 20
STATEMENT = "privacy/statement.json"


def compress(run: Path, steps: Steps, out: Path) -> Derivation:
    """Write the compressed release of a run.

    Args:
        run: a run, its `release/`, or the model's own folder.
        steps: what is done.
        out: a new folder.

    Returns: the record that is written.
    Raises: InputError for a model that cannot be compressed so, or a folder that is there.
    """
    source = model_folder(run)
    made, content, manifest = _made(source, steps)
    if out.exists():
        raise InputError(f"--out {out}: exists already; choose a new folder")
    release = out / "release"
    ledger = (Layout.of(run).release / received_run.LEDGER).is_file()
    try:
        (release / "model").mkdir(parents=True)
        (release / "model/model.safetensors").write_bytes(content)
        (release / "model/manifest.json").write_bytes(manifest)
        shutil.copyfile(source / "items.json", release / "model/items.json")
        (release / DERIVATION).write_text(made.model_dump_json(indent=2) + "\n")
        statement = read_below(source.parent, STATEMENT, 16 * _LARGEST)
        if statement is not None:
            (release / "privacy").mkdir()
            (release / STATEMENT).write_bytes(statement)
        if ledger:
            (release / SOURCE).write_bytes(received_run.export(run))
            if faults := derived.faults(release, received_run.received(release / SOURCE)):
                raise InputError(f"{run}: {faults[0]}; finish the run, or bring back its files")
    except InputError:
        shutil.rmtree(out, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        raise InputError(f"--out {out}: cannot be written ({error.strerror}); choose another folder") from None
    return made


def check(out: Path, run: Path) -> Derivation:
    """Make a compressed model anew of its source and compare every byte.

    Args:
        out: the compressed release.
        run: the source.

    Raises:
        InputError: where one of them is none.
        VerificationError: for another source, or another result.
    """
    release = Layout.of(out).release if not (out / DERIVATION).is_file() else out
    content = read_below(release, DERIVATION, _LARGEST)
    try:
        record = Derivation.model_validate_json(content or b"")
    except ValidationError:
        raise InputError(f"{out}: no compressed release (needs {DERIVATION})") from None
    again, _, _ = _made(model_folder(run), record.steps)
    if again.source != record.source:
        raise VerificationError(f"{out}: was made of another model than that of {run}")
    there = {name: digest_below(release, f"model/{name}") for name in ("manifest.json", "model.safetensors")}
    if (there["manifest.json"], there["model.safetensors"]) != (record.manifest, record.model):
        raise VerificationError(f"{out}: its model is not the one that {DERIVATION} names")
    if (again.manifest, again.model) != (record.manifest, record.model):
        hint = "; another machine may round a distillation otherwise" if record.steps.distil else ""
        raise VerificationError(f"{out}: the same steps give another model{hint}")
    return record


def _made(source: Path, steps: Steps) -> tuple[Derivation, bytes, bytes]:
    """The record, and the contents of model.safetensors and manifest.json."""
    manifest, text = read_manifest(source)
    if "packed" in manifest or "derived_from" in manifest:
        raise InputError(f"{source}: is compressed already; compress the model that it was made of")
    if "items" not in manifest:
        raise InputError(f"{source}: a model of an older version, without the ids of its items; release it again")
    if steps.distil is None and steps.prune is None and steps.bits is None:
        raise InputError("compress: nothing to do; give --int8, --int4, --prune or --distil")
    for name, digest in (("model.safetensors", manifest["sha256"]), ("items.json", manifest["items"]["sha256"])):
        if digest_below(source, name) != digest:
            raise InputError(f"{source / name}: is not the file that manifest.json names; fetch it again")
    about = manifest
    if steps.distil is None:
        file = TensorFile(source / "model.safetensors")
        tensors = file.read_below("")
        file.close()
    else:
        tensors, settings = _distilled(source, steps)
        about = manifest | {"model": settings}
    found, packing = packed(tensors, sum(1 for _ in read_ids(source / "items.json")), steps)
    digest = hashlib.sha256(text).hexdigest()
    content, made = files_of(about, digest, found, packing)
    record = Derivation(
        source=Source(manifest=digest, model=manifest["sha256"]),
        steps=steps,
        version=__version__,
        manifest=hashlib.sha256(made).hexdigest(),
        model=json.loads(made)["sha256"],
    )
    return record, content, made


def _distilled(source: Path, steps: Steps) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    from fedrec.algorithms.discover import load_model
    from fedrec.compress.distil import distilled

    student = distilled(load_model(source), steps)
    tensors = {name: tensor.contiguous().numpy() for name, tensor in student.tensors().items()}
    return tensors, student.manifest()


def sizes(folder: Path) -> tuple[int, int]:
    """Bytes of a model's tensors in its file, and as float32."""
    manifest, _ = read_manifest(folder)
    path = folder / "model.safetensors"
    file = PackedFile(path, manifest.get("packed", {}))
    whole = sum(value.nbytes for value in file.read_below("").values())
    file.close()
    return path.stat().st_size, whole
