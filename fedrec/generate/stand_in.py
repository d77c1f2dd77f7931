"""StandIn: no language model. It shows and tests the ways around one, and gives the same answer each time.

It repeats reasons in a fixed sentence, and orders items by the words that they share with the wish.
"""

import re
from typing import ClassVar

from fedrec.generate.base import LanguageModel, Limits, Prompt


class StandIn(LanguageModel):
    """Rules in place of a model."""

    kind: ClassVar[str] = "stand-in"

    @property
    def name(self) -> str:
        return "stand-in (no language model)"

    def complete(self, prompt: Prompt, limits: Limits) -> str:
        reasons = [line[2:] for line in prompt.data.splitlines() if line.startswith("- ")]
        if reasons:
            return f"For you, since {', and since '.join(reasons)}."[: limits.characters]
        wish, _, items = prompt.data.partition("\nItems:\n")
        wanted = _words(wish.removeprefix("Wish: "))
        lines = items.splitlines()
        order = sorted(range(len(lines)), key=lambda place: (-len(wanted & _words(lines[place])), place))
        return ", ".join(str(place + 1) for place in order)[: limits.characters]


def _words(text: str) -> set[str]:
    return {word.casefold() for word in re.findall(r"[^\W\d_]{3,}", text)}
