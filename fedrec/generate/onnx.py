"""OnnxModel: a causal language model as an ONNX file, run by ONNX Runtime in this process. It opens no socket.

The folder has `model.onnx` and `tokenizer.json`. Inputs are `input_ids` and, where the model has them,
`attention_mask`, `position_ids` and `past_key_values.N.key` and `.value` with outputs `present.N.*`: with
these, each token is computed once. The first output is the logits, (1, tokens, vocabulary). The next token is the most
probable one.
"""

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fedrec.errors import InputError, first_line
from fedrec.extras import named
from fedrec.generate.base import LanguageModel, Limits, Prompt

FILE, TOKENIZER = "model.onnx", "tokenizer.json"
PAST, PRESENT = "past_key_values.", "present."
LONGEST = 2048
"""Tokens of a prompt; a longer one is refused."""
ENDS = ("</s>", "<|endoftext|>", "<|im_end|>", "<|end|>", "<eos>", "<end_of_turn>", "[SEP]")
"""Tokens that end an answer, where the tokenizer has them."""


class OnnxModel(LanguageModel):
    """A causal language model in a folder."""

    kind: ClassVar[str] = "onnx"

    def __init__(self, folder: str | Path) -> None:
        """Open the model and its tokenizer.

        Raises:
            InputError: where a file is missing or of another kind.
            MissingExtra: without onnxruntime and tokenizers.
        """
        self.folder = Path(folder).expanduser()
        for name in (FILE, TOKENIZER):
            if not (self.folder / name).is_file():
                raise InputError(f"{self.folder}: has no {name}; give the folder of an ONNX language model")
        with named("client explain"):
            import onnxruntime
            from tokenizers import Tokenizer
        try:
            self._session = onnxruntime.InferenceSession(str(self.folder / FILE), providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_file(str(self.folder / TOKENIZER))
        except Exception as error:  # ONNX Runtime and tokenizers raise types of their own
            raise InputError(f"{self.folder}: no ONNX language model ({first_line(error)})") from None
        self._inputs = {each.name: each for each in self._session.get_inputs()}
        self._outputs = [each.name for each in self._session.get_outputs()]
        past = {name for name in self._inputs if name.startswith(PAST)}
        known = {"input_ids", "attention_mask", "position_ids"} | past
        presents = {PRESENT + name.removeprefix(PAST) for name in past}
        if "input_ids" not in self._inputs or self._inputs.keys() - known or not presents <= set(self._outputs):
            raise InputError(
                f"{self.folder / FILE}: has the inputs {sorted(self._inputs)[:6]}; no causal language model"
            )
        self._past = sorted(past)
        found = (self._tokenizer.token_to_id(end) for end in ENDS)
        self._ends = {end for end in found if end is not None}

    @property
    def name(self) -> str:
        return f"onnx ({self.folder.name})"

    def complete(self, prompt: Prompt, limits: Limits) -> str:
        known = list(self._tokenizer.encode(prompt.text).ids)
        if not 0 < len(known) <= LONGEST:
            raise InputError(f"{self.name}: a prompt of {len(known)} tokens; at most {LONGEST}")
        end, written, past = time.monotonic() + limits.seconds, list[int](), self._empty()
        fresh = known
        for _ in range(limits.tokens):
            if time.monotonic() > end:
                raise InputError(f"{self.name}: no answer within {limits.seconds:g} seconds")
            logits, past = self._run(fresh, len(known), past)
            token = int(np.argmax(logits))
            if token in self._ends:
                break
            written.append(token)
            known.append(token)
            fresh = [token] if self._past else known
        text: str = self._tokenizer.decode(written)
        return text[: limits.characters]

    def _empty(self) -> dict[str, np.ndarray]:
        made = {}
        for name in self._past:
            _, heads, _, width = self._inputs[name].shape
            if not isinstance(heads, int) or not isinstance(width, int):
                raise InputError(f"{self.name}: the shape of {name} is open; export it with fixed heads and widths")
            kind = np.float16 if "float16" in self._inputs[name].type else np.float32
            made[name] = np.zeros((1, heads, 0, width), kind)
        return made

    def _run(
        self, fresh: list[int], total: int, past: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The logits after the last token, (vocabulary,), and what the next call gets of the tokens so far."""
        given: dict[str, Any] = {
            "input_ids": np.array([fresh], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(total - len(fresh), total, dtype=np.int64)[None],
        }
        given = {name: value for name, value in given.items() if name in self._inputs} | past
        try:
            found = dict(zip(self._outputs, self._session.run(None, given), strict=True))
        except Exception as error:  # ONNX Runtime raises types of its own
            raise InputError(f"{self.name}: cannot be run ({first_line(error)})") from None
        return found[self._outputs[0]][0, -1], {name: found[PRESENT + name.removeprefix(PAST)] for name in self._past}
