"""Examples in docstrings, `>>> ...`, as blocks of code: markdown alone would read them as quotations."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE)


def fenced(docstring: str) -> str:
    r"""Return the docstring with a fence around each run of examples and their output.

    >>> fenced("Add.\n\n>>> 1 + 1\n2").splitlines()
    ['Add.', '', '```pycon', '>>> 1 + 1', '2', '```']
    """
    return _EXAMPLE.sub(lambda found: f"{found['indent']}```pycon\n{found[0]}\n{found['indent']}```", docstring)


class Doctests(Extension):
    """Fences the examples of every docstring that a page shows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of one object, in place."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
