"""fedrec: federated recommendation in which a person's history and taste vector never leave their device."""

from importlib.metadata import version as _version

__version__ = _version("fedrec")
