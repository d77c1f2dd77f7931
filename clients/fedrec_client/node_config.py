"""What the configuration of a node may be, for all that reads it."""

from collections.abc import Mapping

from fedrec.errors import InputError

Value = str | int | float | bool

VIRTUAL = "FEDREC_VIRTUAL_NODES"
"""Set in the processes of a simulation's virtual nodes, where the run and all data are one person's: they serve every
dataset, and the files that the run names. No started node has it (`fedrec.transport.environment`)."""

STORE, HUB = "store", "hub"
"""Keys of nodes of devices: the folder of one, or a folder with a folder for each."""


def is_device(config: Mapping[str, Value]) -> bool:
    """Whether a configuration is that of a device or a hub."""
    return STORE in config or HUB in config


class ConfigError(InputError):
    """The node's own configuration cannot be used. The text quotes nothing of the data, so it may be logged."""
