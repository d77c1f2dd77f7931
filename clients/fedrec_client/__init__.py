"""The client: what computes where the users' data lie.

`EdgeClient` is for an app on the device of one person; `fedrec client start` is a node that takes part in runs. Each
name below is imported when it is first used.
"""

from fedrec.lazy_names import lazily as _lazily

__getattr__, __dir__, __all__ = _lazily(
    __name__,
    {
        "EdgeClient": "fedrec_client.edge.client",
        "AsyncEdgeClient": "fedrec_client.edge.asynchronous",
        "Filters": "fedrec_client.edge.answers",
        "Freshness": "fedrec_client.edge.answers",
        "SyncOptions": "fedrec_client.releases.sync",
        "Server": "fedrec_client.hosting",
        "Plan": "fedrec_client.participation.stay",
        "Conditions": "fedrec_client.participation.conditions",
        "Event": "fedrec_client.store.event",
        "Credential": "fedrec_client.store.key_sources",
        "KeyFile": "fedrec_client.store.key_sources",
        "Keyring": "fedrec_client.store.key_sources",
        "Passphrase": "fedrec_client.store.key_sources",
        "read_events": "fedrec_client.store.event_files",
    },
)
