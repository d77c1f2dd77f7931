"""Encoders of models that a user has, and of pictures; and files that pretend to be models."""

import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedrec.encoders import media, sentence_transformers, weights
from fedrec.encoders.base import encoder
from fedrec.encoders.tensors import read_tensors
from fedrec.errors import InputError

WORDS = ["[UNK]", "[CLS]", "[SEP]", "heat", "alien", "speed"]


def onnx_model(folder: Path, pooled: bool = False) -> Path:
    """A model that looks up one row of a table for each token, (1, tokens, 3), or their sum, (1, 3)."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    table = np.arange(18, dtype=np.float32).reshape(6, 3) - 4
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])]
    shape: list[Any] = [1, "n", 3]
    if pooled:
        nodes.append(helper.make_node("ReduceSum", ["tokens", "axis"], ["vector"], keepdims=0))
        shape = [1, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kinds.INT64, [1, "n"]) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("vector" if pooled else "tokens", kinds.FLOAT, shape)],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axis")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"


@pytest.mark.parametrize("pooled", [False, True])
def test_an_onnx_file_of_ones_own_encodes_texts(pooled: bool, tmp_path: Path) -> None:
    file = onnx_model(tmp_path, pooled)
    made = encoder("onnx")(str(tmp_path))
    assert made.width == 3
    assert made.identity.sha256 == weights.digest_of(file)
    found = made.encode(["heat alien", "speed"], "text")
    expected = np.array([[5 + 8, 6 + 9, 7 + 10], [11, 12, 13]], float)
    assert found == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True), rel=1e-6)
    with pytest.raises(InputError, match="the one that you gave"):
        encoder("onnx")(str(file), "0" * 64)


def test_what_is_no_text_model_is_one_line(tmp_path: Path) -> None:
    file = onnx_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="is no tokenizer"):
        encoder("onnx")(str(file))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="put the model's tokenizer"):
        encoder("onnx")(str(file))
    onnx_model(tmp_path)
    file.write_bytes(b"no model")
    with pytest.raises(InputError, match="is no model that ONNX Runtime"):
        encoder("onnx")(str(file))


@pytest.fixture(scope="module")
def pictures() -> Any:
    if lacking := encoder("efficientnet").lacking():
        pytest.skip(f"efficientnet {lacking}")
    return encoder("efficientnet")()


def person() -> Any:
    """A photograph of an officer in uniform (public domain), which matplotlib ships."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if not file.is_file():
        pytest.skip(f"no {file.name} in this matplotlib")
    return media.picture(file.read_bytes())


def test_the_network_knows_a_uniform_as_its_authors_weights_do(pictures: Any) -> None:
    features = pictures.features(pictures.pixels(person()))
    logits = pictures._weights["_fc.weight"] @ features + pictures._weights["_fc.bias"]
    assert int(logits.argmax()) == 652, "military uniform in ImageNet's list"
    found = pictures.encode([person(), person().rotate(5)], "image")
    assert found.shape == (2, pictures.width)
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1], abs=1e-5)
    plain = pictures.encode([person().resize((30, 40)).convert("L").convert("RGB")], "image")
    assert found[0] @ found[1] > found[0] @ plain[0]


def hostile(folder: Path, code: bytes) -> Path:
    """A file in the older format whose table is the pickle `code`."""
    file = folder / "model.pth"
    start = b"\x80\x02K\x01." * 3
    file.write_bytes(start + b"\x80\x02" + code + b"." + b"\x80\x02](X\x01\x00\x00\x000e.")
    return file


def tensor(start: int, shape: bytes, stride: bytes, storage: bytes = b"torch\nFloatStorage\n") -> bytes:
    name = b"X\x01\x00\x00\x00"
    reference = b"(X\x07\x00\x00\x00storagec" + storage + name + b"0X\x03\x00\x00\x00cpuK\x04Nt"
    entry = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + b"QK" + bytes([start]) + shape + stride
    return b"}" + name + b"w" + entry + b"\x89}tRs"


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00truetR",
        b"c__builtin__\neval\n(X\x01\x00\x00\x001tR",
        b"(ios\nsystem\n",
        tensor(0, b"K\x05\x85", b"K\x01\x85"),
        tensor(200, b"K\x01\x85", b"K\x01\x85"),
        tensor(0, b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
        tensor(0, b"K\x02\x85", b"K\x01\x85", b"os\nsystem\n"),
        b"}",
    ],
)
def test_a_model_file_runs_no_code_and_reads_nothing_beyond_its_tensors(code: bytes, tmp_path: Path) -> None:
    file = hostile(tmp_path, code)
    if code != b"}":
        with file.open("ab") as opened:
            opened.write(struct.pack("<q4f", 4, 1, 2, 3, 4))
        with pytest.raises(InputError, match="is no plain table of tensors"):
            read_tensors(file)
        return
    with pytest.raises(InputError, match="is no plain table of tensors"):
        read_tensors(file)  # its storage is missing


def test_tensors_are_read_with_their_strides(tmp_path: Path) -> None:
    file = hostile(tmp_path, tensor(0, b"K\x02K\x02\x86", b"K\x01K\x02\x86"))
    with file.open("ab") as opened:
        opened.write(struct.pack("<q4f", 4, 1, 2, 3, 4))
    assert read_tensors(file)["w"].tolist() == [[1, 3], [2, 4]]


class Documented:
    """The documented part of `sentence_transformers.SentenceTransformer`, where the package is missing."""

    def __init__(self, place: str, *, device: str, local_files_only: bool, trust_remote_code: bool) -> None:
        assert (device, local_files_only, trust_remote_code) == ("cpu", True, False)
        if not Path(place).is_dir():
            raise OSError(f"no model at {place}")

    def eval(self) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        import torch

        return {"weight": torch.ones(2, dtype=torch.bfloat16)}

    def encode(self, inputs: Sequence[Any], **options: Any) -> np.ndarray:
        assert options["normalize_embeddings"]
        assert options["batch_size"] == 1
        return np.array([[len(text), 0.0] for text in inputs]) / np.array([[len(text)] for text in inputs])


def test_sentence_transformers_loads_what_the_user_has_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = type("library", (), {"SentenceTransformer": Documented})
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setattr(sentence_transformers.SentenceTransformers, "lacking", classmethod(lambda cls: ""))
    made = encoder("sentence-transformers")(str(tmp_path))
    assert made.encode(["Heat"], "text").tolist() == [[1.0, 0.0]]
    assert encoder("sentence-transformers")(str(tmp_path), made.identity.sha256).width == 2
    with pytest.raises(InputError, match="the one that you gave is 0000"):
        encoder("sentence-transformers")(str(tmp_path), "0" * 64)
    with pytest.raises(InputError, match="does not encode image"):
        made.encode([None], "image")
    with pytest.raises(InputError, match=r"cannot be loaded \(OSError: no model at"):
        encoder("sentence-transformers")(str(tmp_path / "nowhere"))


@pytest.mark.slow  # the packages take seconds to import
def test_a_real_model_of_sentence_transformers_with_random_weights(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", *WORDS, "[MASK]"]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    transformers.BertModel(transformers.BertConfig(vocab_size=8, **sizes)).save_pretrained(folder)
    made = encoder("sentence-transformers")(str(folder))
    together = made.encode(["heat", "heat alien speed"], "text")
    assert together.shape == (2, 8)
    assert (together == np.concatenate([made.encode([each], "text") for each in ("heat", "heat alien speed")])).all()
    assert encoder("sentence-transformers")(str(folder), made.identity.sha256).width == 8


def test_a_json_file_that_is_no_picture_is_unreadable() -> None:
    pytest.importorskip("PIL")
    with pytest.raises(media.Unreadable, match="no picture"):
        media.picture(json.dumps({}).encode())
