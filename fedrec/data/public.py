"""The built-in datasets: published or generated, so that a run over them may go without privacy."""

from collections.abc import Iterable

from fedrec.data.readers import FOLDERS, GENERATED
from fedrec.data.sources import SOURCES
from fedrec.errors import InputError

PUBLIC = frozenset({*FOLDERS, *GENERATED, *SOURCES})
"""Their names."""


def check_public(names: Iterable[str]) -> frozenset[str]:
    """The names of datasets that a node may serve shards of.

    Raises:
        InputError: for one that is not built in.
    """
    found = frozenset(names)
    for name in sorted(found - PUBLIC):
        raise InputError(
            f"dataset '{name}': a shard is of a built-in, public dataset (`fedrec data list`); host other data with "
            "`fedrec client start --data FILE --catalogue FILE`, which takes part under privacy alone"
        )
    return found
