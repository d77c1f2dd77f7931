"""LanguageModel: a model on this device that continues a text. What it writes is untrusted until it is checked.

A prompt has two parts. The task is written here. The data hold titles and labels of a catalogue, which are somebody
else's text: `as_data` writes each as a quoted string in which no character can end the quotes, start a line, or be a
sign of a chat format, a link or a picture. A model may still obey what a title says. So nothing here relies on the
model: `retell` and `rerank` check all that it writes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from fedrec.ondevice.explanation import LONGEST_TITLE

_PLAIN = frozenset(" .,:;!?'&()-/+%")
"""Characters of a quoted string that are written as they are, next to letters and digits."""


@dataclass(frozen=True)
class Limits:
    """What a completion may take.

    Attributes:
        tokens: most tokens of the answer.
        seconds: most seconds until the answer is complete.
        characters: most characters of the answer.
    """

    tokens: int = 160
    seconds: float = 60.0
    characters: int = 2000


@dataclass(frozen=True)
class Prompt:
    """What a model gets.

    Attributes:
        task: what to write; of fedrec.
        data: what to write about: lines with quoted strings.
    """

    task: str
    data: str

    @property
    def text(self) -> str:
        """Both as one text, for a model without roles."""
        return f"{self.task}\n\n{self.data}\n\nAnswer:"


class LanguageModel(ABC):
    """A model on this device. A subclass opens no connection but to this machine itself."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in answers, with its kind."""

    @abstractmethod
    def complete(self, prompt: Prompt, limits: Limits) -> str:
        """Return what the model writes after a prompt.

        Args:
            prompt: the task and its data.
            limits: of the answer.

        Raises:
            InputError: one line, where it does not answer, or not within the limits.
        """


def as_data(text: str, longest: int = LONGEST_TITLE) -> str:
    """Return somebody else's text as a quoted string on one line.

    Args:
        text: e.g. a title.
        longest: characters of it that are kept.
    """
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    written = "".join(each if each.isalnum() or each in _PLAIN else _escape(each) for each in cut)
    return '"' + written.replace("://", ":\\u002f\\u002f") + '"'


def _escape(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in _units(ord(character)))


def _units(point: int) -> list[int]:
    return [point] if point < 0x10000 else [0xD800 + ((point - 0x10000) >> 10), 0xDC00 + ((point - 0x10000) & 0x3FF)]
