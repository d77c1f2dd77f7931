"""An ONNX language model: a tiny real causal network with random weights, which the test writes itself."""

from pathlib import Path

import numpy as np
import pytest

from fedrec.errors import InputError
from fedrec.generate.base import Limits, Prompt
from fedrec.generate.onnx import OnnxModel
from fedrec.generate.place import language_model
from tests.core.generate.test_llama_cpp import only_loopback

onnx = pytest.importorskip("onnx", reason="writes the tiny model")
pytest.importorskip("onnxruntime", reason="needs the extra fedrec[generate]")
pytest.importorskip("tokenizers", reason="needs the extra fedrec[generate]")

WORDS = ["[UNK]", "</s>", "films", "and", "seas", "of", "light", "Answer", ":", "task", "data"]
WIDTH = 6
WEIGHTS = np.random.default_rng(2).normal(size=(2, len(WORDS), WIDTH)).astype(np.float32)
"""Embeddings and output rows; not trained on anything."""


def tiny(folder: Path, *, cached: bool, end: float = -50.0) -> Path:
    """Write a causal model: logits = output x mean of the embeddings so far. cached: with those as keys of the past."""
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    output = WEIGHTS[1].copy()
    constants = {
        "embeddings": WEIGHTS[0],
        "output": output.T,
        "bias": np.eye(1, len(WORDS), 1, dtype=np.float32)[0] * end,
    }
    constants |= {"axis": np.array(1, np.int64), "heads": np.array([1], np.int64)}
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [1, "total"])
    inputs, outputs = (
        [ids, mask],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "tokens", len(WORDS)])],
    )
    every = "each"
    if cached:
        for kind in ("key", "value"):
            shape = [1, 1, "past", WIDTH]
            inputs.append(helper.make_tensor_value_info(f"past_key_values.0.{kind}", TensorProto.FLOAT, shape))
            outputs.append(helper.make_tensor_value_info(f"present.0.{kind}", TensorProto.FLOAT, [1, 1, "all", WIDTH]))
            nodes += [
                helper.make_node("Unsqueeze", ["each", "heads"], [f"new {kind}"]),
                helper.make_node("Concat", [f"past_key_values.0.{kind}", f"new {kind}"], [f"present.0.{kind}"], axis=2),
            ]
        nodes.append(helper.make_node("Squeeze", ["present.0.key", "heads"], ["every"]))
        every = "every"
    nodes += [
        helper.make_node("ReduceSum", [every, "heads"], ["sum"], keepdims=1),
        helper.make_node("ReduceSum", ["mask", "heads"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "output"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "tiny", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def expected(tokens: list[int], count: int) -> str:
    known = list(tokens)
    for _ in range(count):
        known.append(int((WEIGHTS[1] @ WEIGHTS[0][known].mean(0) + np.eye(1, len(WORDS), 1)[0] * -50).argmax()))
    return " ".join(WORDS[token] for token in known[len(tokens) :])


@pytest.mark.parametrize("cached", [False, True])
def test_it_writes_the_most_probable_tokens(tmp_path: Path, cached: bool) -> None:
    with only_loopback() as seen:
        model = language_model(str(tiny(tmp_path / "tiny", cached=cached)))
        found = model.complete(Prompt("task films", "data seas"), Limits(tokens=9))
        assert seen == []
    assert found == expected([9, 2, 10, 4, 0], 9), "the prompt ends with an unknown word, `Answer:`"
    assert len(set(found.split())) > 1
    assert model.name == "onnx (tiny)"
    assert model.complete(Prompt("task films", "data seas"), Limits(tokens=9, characters=7)) == found[:7]


def test_an_answer_ends_at_its_end_token_and_at_the_time(tmp_path: Path) -> None:
    model = OnnxModel(tiny(tmp_path / "tiny", cached=True, end=50.0))
    assert model.complete(Prompt("task", "data"), Limits()) == ""
    with pytest.raises(InputError, match="no answer within"):
        model.complete(Prompt("task", "data"), Limits(seconds=-1.0))
    with pytest.raises(InputError, match="at most 2048"):
        model.complete(Prompt("task", "films " * 3000), Limits())


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no model\.onnx"):
        OnnxModel(tmp_path)
    folder = tiny(tmp_path / "tiny", cached=False)
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="no ONNX language model"):
        OnnxModel(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        OnnxModel(folder)
