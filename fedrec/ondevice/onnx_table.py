"""The scan of a device by ONNX Runtime, on a file of `fedrec export --onnx`: the same lists as without it.

ONNX Runtime gives the approximate scores of a scan. A float32 product has the bound of `fedrec.ondevice.item_table`
in whatever order a library sums; the network of `fedncf` is computed in float64. The candidates are scored exactly from
the model's own file. So the lists do not depend on the library.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.base import DeviceModel
from fedrec.ondevice.factors import FactorModel
from fedrec.ondevice.item_table import ItemTable, Levels, radius_of
from fedrec.ondevice.local_training import FedNCFForm, LocalForm
from fedrec.ondevice.released import load, read_manifest

MANIFEST = "manifest"
"""Field of the file: SHA-256 of the manifest of its model, hex."""


class OnnxTable(ItemTable):
    """A table whose scan is a session's output `products`."""

    def __init__(self, table: ItemTable, session: Any) -> None:
        """table: of the model; its rows are read for exact scores."""
        self.__dict__ |= table.__dict__
        self._session = session
        radius = np.concatenate([radius_of(rows, None, None) for _, rows in table.blocks()])
        self.__dict__["_levels"] = Levels(None, np.zeros(0, np.float32), radius)

    def _approximations(self, vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        yield 0, self._session.run(["products"], {"vector": vectors})[0]


def load_onnx(folder: Path, file: Path) -> DeviceModel:
    """Open the model in `folder`, with its scan on ONNX Runtime.

    Args:
        folder: of the released model.
        file: of `fedrec export --onnx`, of the same model.

    Raises:
        InputError: as `fedrec.ondevice.released.load`; for a file of another model, or none.
    """
    import onnxruntime

    model = load(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        found = session.get_modelmeta().custom_metadata_map.get(MANIFEST)
    except Exception as error:  # what the library raises has no common class
        kind = type(error).__name__
        raise InputError(f"{file}: is no ONNX file that can be read ({kind}); export it again") from None
    if found != hashlib.sha256(read_manifest(folder)[1]).hexdigest():
        raise InputError(f"{file}: was exported from another model than that of {folder}; export it again")
    if isinstance(model, FedNCFForm):
        model.run = lambda private: session.run(["scores"], {"private": private[None]})[0][0]
    elif isinstance(model, FactorModel | LocalForm):
        model.table = OnnxTable(model.table, session)
    else:
        raise InputError(f"{folder}: this kind of model has no ONNX scorer; load it without")
    return model
