"""The encrypted store of the client: events and private states of one person. Needs `cryptography` and SQLite alone."""

from fedrec_client.store.event import Event, Recorded
from fedrec_client.store.event_files import read_events
from fedrec_client.store.export import export_lines, export_my_data
from fedrec_client.store.key_sources import Credential, KeyFile, Keyring, KeySource, Passphrase
from fedrec_client.store.salvage import Salvaged, salvage
from fedrec_client.store.store import Store

__all__ = [
    "Credential",
    "Event",
    "KeyFile",
    "KeySource",
    "Keyring",
    "Passphrase",
    "Recorded",
    "Salvaged",
    "Store",
    "export_lines",
    "export_my_data",
    "read_events",
    "salvage",
]
