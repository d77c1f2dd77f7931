"""The built-in datasets: they are published or generated, so a run on them may do without privacy."""

from collections.abc import Iterable

from fedrec.data.readers import FOLDERS, GENERATED
from fedrec.data.sources import SOURCES
from fedrec.errors import InputError

PUBLIC = frozenset({*FOLDERS, *GENERATED, *SOURCES})
"""Their names."""


def check_public(names: Iterable[str]) -> frozenset[str]:
    """Return the given names of datasets if a node may serve shards of all of them.

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
