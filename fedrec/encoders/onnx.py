"""`onnx`: a text encoder of your own as an ONNX file, with the `tokenizer.json` of its folder.

The model gets `input_ids` and, where it has them as inputs, `attention_mask` and `token_type_ids`. Its first output is
the vectors of the tokens, (1, tokens, width), whose mean counts, or the vector of the text, (1, width). Vectors are
scaled to unit length. Texts are run one at a time: in an int8 model with dynamic scales a vector would otherwise
depend on the other texts of its batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedrec.encoders.base import Encoder, Identity, Kind
from fedrec.encoders.weights import checked, lacks, version_of
from fedrec.errors import InputError, first_line
from fedrec.extras import named

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST = 256
"""Tokens of a text that count."""
FILE, TOKENIZER = "model.onnx", "tokenizer.json"


class Onnx(Encoder):
    """The user's own model."""

    name: ClassVar[str] = "onnx"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"text"})
    needs_model: ClassVar[bool] = True

    def __init__(self, model: str = "", sha256: str = "") -> None:
        super().__init__(model, sha256)
        file = self._file()
        self._digest = checked(file, self._pinned, sha256)
        self._tokenizer, self._session = self._tokens(file.parent), _session(file)
        self._inputs = {each.name for each in self._session.get_inputs()}
        known = {"input_ids", "attention_mask", "token_type_ids"}
        if "input_ids" not in self._inputs or self._inputs - known:
            raise InputError(
                f"{file}: has the inputs {sorted(self._inputs)}; a text encoder has some of {sorted(known)}"
            )
        self._width = self._run("a text").shape[0]

    _pinned: ClassVar[str] = ""

    def _file(self) -> Path:
        given = Path(self.model).expanduser()
        file = given / FILE if given.is_dir() else given
        if not file.is_file():
            raise InputError(f"{file}: no such file; give an ONNX file, or the folder of {FILE} and {TOKENIZER}")
        return file

    def _tokens(self, folder: Path) -> "Tokenizer":
        with named("data encode"):
            from tokenizers import Tokenizer
        file = folder / TOKENIZER
        if not file.is_file():
            raise InputError(f"{file}: is missing; put the model's tokenizer beside it, as {TOKENIZER}")
        try:
            made = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise InputError(f"{file}: is no tokenizer ({first_line(error)})") from None
        made.no_padding()
        made.enable_truncation(LONGEST)
        return made

    @classmethod
    def lacking(cls) -> str:
        return lacks("onnxruntime", "tokenizers")

    @property
    def identity(self) -> Identity:
        return Identity(self.name, Path(self.model).name, self._digest)

    @property
    def width(self) -> int:
        return self._width

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        return np.stack([self._run(text) for text in inputs])

    def _run(self, text: str) -> np.ndarray:
        """Return the unit vector of a text, (width,) float32."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)  # (1, tokens)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        try:
            found = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        except Exception as error:  # the library's own errors have no common base
            raise InputError(f"{self._file()}: does not run on a text ({first_line(error)})") from None
        found = np.asarray(found, np.float64)
        vector = found[0].mean(0) if found.ndim == 3 else found[0]
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise InputError(f"{self._file()}: its first output is no finite vector of a text, but {found.shape}")
        return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)


def _session(file: Path) -> Any:
    with named("data encode"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own errors have no common base
        raise InputError(
            f"{file}: is no model that ONNX Runtime {version_of('onnxruntime')} reads ({first_line(error)})"
        ) from None
