"""The allow list of a server: the plug-ins that runs over it may use, as `--plugin` of a node is for the node.

By default a server runs built-in code alone. Its operator names installed algorithms and towers of other packages with
`fedrec server start --plugin NAME`; the server's processes get the names in an environment variable.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fedrec.plugins import PluginRefused, only

VARIABLE = "FEDREC_PLUGINS"
"""The environment variable with the names of a server's plug-ins, commas between."""


def published() -> frozenset[str]:
    """Return the names that this server's operator allowed."""
    return frozenset(filter(None, os.environ.get(VARIABLE, "").split(",")))


@contextmanager
def allowed_alone(names: Iterable[str]) -> Iterator[None]:
    """Run no plug-ins but `names` within this block.

    Raises: PluginRefused for other code, with the option that allows it.
    """
    try:
        with only(names):
            yield
    except PluginRefused as error:
        raise PluginRefused(f"{error}; the server's operator allows an installed one with --plugin NAME") from None
