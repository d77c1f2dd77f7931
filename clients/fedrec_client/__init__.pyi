from fedrec_client.edge.answers import Filters as Filters
from fedrec_client.edge.answers import Freshness as Freshness
from fedrec_client.edge.asynchronous import AsyncEdgeClient as AsyncEdgeClient
from fedrec_client.edge.client import EdgeClient as EdgeClient
from fedrec_client.hosting import Server as Server
from fedrec_client.participation.conditions import Conditions as Conditions
from fedrec_client.participation.stay import Plan as Plan
from fedrec_client.releases.sync import SyncOptions as SyncOptions
from fedrec_client.store.event import Event as Event
from fedrec_client.store.event_files import read_events as read_events
from fedrec_client.store.key_sources import Credential as Credential
from fedrec_client.store.key_sources import KeyFile as KeyFile
from fedrec_client.store.key_sources import Keyring as Keyring
from fedrec_client.store.key_sources import Passphrase as Passphrase

__version__: str
