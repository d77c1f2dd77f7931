"""A released model's scorer as an ONNX graph, built by hand of a few operators.

| models | input | operators | outputs |
|---|---|---|---|
| als, fcf, spectral, towers, sequence, stars | `vector` (people, d) float32 | MatMul, Add | `products`, `scores` |
| pfedrec, fedrecon | the same: the private vector without its last entry | MatMul | `products`, `scores` |
| fedncf | `private` (people, 2 d) float64 | Slice, Cast, Mul, MatMul, Add, Relu | `scores` |

Both outputs are (people, items). `products` leaves out the items' biases. A person's vector comes from the device form
of the model: fitting it needs the history, and is no part of the graph. The file names the manifest of its model.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fedrec.errors import InputError
from fedrec.ondevice.factors import FactorModel
from fedrec.ondevice.item_table import ItemTable
from fedrec.ondevice.local_training import FedNCFForm, LocalForm
from fedrec.ondevice.onnx_table import MANIFEST
from fedrec.ondevice.released import load, model_folder, read_manifest

OPSET, IR = 17, 9
LARGEST = 1_900_000_000
"""Bytes of the tables of one file."""


def onnx_bytes(run: Path) -> bytes:
    """Return the ONNX file of a released model, the same bytes for the same model.

    Args:
        run: a run, its `release/`, or the model's own folder.

    Raises:
        InputError: for a kind of model without such a graph, or one that is too large.
    """
    folder = model_folder(run)
    _, content = read_manifest(folder)
    model = load(folder)
    if isinstance(model, FedNCFForm):
        graph = _fedncf(model)
    elif isinstance(model, FactorModel | LocalForm):
        bias = model.bias if isinstance(model, FactorModel) else None
        graph = _products(model.table, bias)
    else:
        raise InputError(
            f"{run}: a model of kind '{model.kind}' is no product with an item table; export als, towers, sequence or "
            "fedncf"
        )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="fedrec")
    digest = hashlib.sha256(content).hexdigest()
    helper.set_model_props(made, {MANIFEST: digest, "kind": model.kind, "made_by": model.made_by})
    onnx.checker.check_model(made)
    found: bytes = made.SerializeToString(deterministic=True)
    return found


def _rows(table: ItemTable) -> np.ndarray:
    if 4 * table.items * table.dim > LARGEST:
        raise InputError(f"export: {table.items:,} x {table.dim} numbers are too many for an ONNX file; compress them")
    return np.concatenate([rows for _, rows in table.blocks()])


def _tensor(name: str, value: np.ndarray) -> Any:
    return numpy_helper.from_array(np.ascontiguousarray(value), name)


def _products(table: ItemTable, bias: np.ndarray | None) -> Any:
    shape = ["people", table.items]
    constants = [_tensor("items", _rows(table).T)]
    nodes = [helper.make_node("MatMul", ["vector", "items"], ["products"])]
    if bias is None:
        nodes.append(helper.make_node("Identity", ["products"], ["scores"]))
    else:
        constants.append(_tensor("bias", bias.astype(np.float32)))
        nodes.append(helper.make_node("Add", ["products", "bias"], ["scores"]))
    given = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["people", table.dim])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("products", "scores")]
    return helper.make_graph(nodes, "scores", [given], outputs, constants)


def _fedncf(model: FedNCFForm) -> Any:
    rows, dim = _rows(model.table), model.table.dim // 2
    constants = [
        _tensor("factors", rows[:, :dim].T),
        _tensor("units", rows[:, dim:]),
        _tensor("product", model.product),
        _tensor("by_user", model.by_user.T),
        _tensor("by_item", model.by_item.T),
        _tensor("bias", model.bias),
        _tensor("output", model.output),
        *(_tensor(f"at_{place}", np.array([place], np.int64)) for place in (0, 1, dim, 2 * dim)),
    ]
    node = helper.make_node
    nodes = [
        node("Cast", ["factors"], ["wide_factors"], to=TensorProto.DOUBLE),
        node("Cast", ["units"], ["wide_units"], to=TensorProto.DOUBLE),
        node("Slice", ["private", "at_0", f"at_{dim}", "at_1"], ["first"]),
        node("Slice", ["private", f"at_{dim}", f"at_{2 * dim}", "at_1"], ["second"]),
        node("Mul", ["first", "product"], ["weighed"]),
        node("MatMul", ["weighed", "wide_factors"], ["products"]),
        node("MatMul", ["second", "by_user"], ["of_user"]),
        node("Add", ["of_user", "bias"], ["biased"]),
        node("Unsqueeze", ["biased", "at_1"], ["apart"]),
        node("MatMul", ["wide_units", "by_item"], ["of_items"]),
        node("Add", ["apart", "of_items"], ["before"]),
        node("Relu", ["before"], ["after"]),
        node("MatMul", ["after", "output"], ["network"]),
        node("Add", ["products", "network"], ["scores"]),
    ]
    given = helper.make_tensor_value_info("private", TensorProto.DOUBLE, ["people", 2 * dim])
    output = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["people", model.table.items])
    seen: dict[str, Any] = {each.name: each for each in constants}  # dim 1 names a place twice
    return helper.make_graph(nodes, "scores", [given], [output], list(seen.values()))


def write(run: Path, file: Path) -> int:
    """Write the ONNX file; return its bytes. Raises: InputError as `onnx_bytes`, or for a file that is there."""
    content = onnx_bytes(run)
    try:
        with file.open("xb") as out:
            out.write(content)
    except FileExistsError:
        raise InputError(f"--onnx {file}: exists already; choose another file") from None
    except OSError as error:
        raise InputError(f"--onnx {file}: cannot be written ({error.strerror})") from None
    return len(content)
