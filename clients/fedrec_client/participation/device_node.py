"""The node of one device, or of a hub of devices: what its configuration names, and what answers for it.

| key | meaning |
|---|---|
| `store` | the folder of one device (`fedrec_client.edge.layout`), which is the node's own folder, too |
| `hub` | instead: a folder with a folder for each device, which has its own key, policy and ledger |
| `items` | the items of the run: a file of `fedrec.ondevice.run_items.RunItems`; the file of the same name that ends in
`.features` holds what `kernel-rank` needs (`fedrec.ondevice.kernel_items`) |
| `catalogue` | the public items, the file that the server has; without it, algorithms that need torch are refused |
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fedrec.errors import FedrecError
from fedrec.ondevice.kernel_items import features_of
from fedrec.ondevice.run_items import RunItems
from fedrec.privacy.discrete.stream import WordStream
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.files import policy_of
from fedrec_client.consent.policy import Policy
from fedrec_client.edge.layout import DeviceFolder
from fedrec_client.hosted_data import Find, Hosted
from fedrec_client.node import UserNode
from fedrec_client.node_config import HUB, STORE, ConfigError, Value
from fedrec_client.participation.device_run import prepared
from fedrec_client.participation.hub import HubConsent
from fedrec_client.participation.stored_user import StoredUser, StoredUsers
from fedrec_client.prepared_run import Words
from fedrec_client.run_gate import RunGate


def device_node(
    config: Mapping[str, Value], policy: Policy, gate: RunGate, consent: Consent, words: Words = WordStream.fresh
) -> UserNode:
    """Return what answers for a device or a hub.

    Args:
        config: the node's.
        policy: the node's; a hub's devices have their own besides.
        gate: checks run cards and charges.
        consent: the node's; of a hub, the policy of its operator.
        words: makes the secret words of noise and coins.

    Raises: ConfigError for a folder or file that cannot be used.
    """
    folders, items = folders_of(config), _items_of(config)
    catalogue = Path(str(config["catalogue"])) if "catalogue" in config else None
    users = [StoredUser(DeviceFolder(folder)) for folder in folders]
    features = features_of(items)
    prepare = prepared(words, catalogue, features if features.is_file() else None)
    if STORE in config:
        return UserNode(_find(users, [policy], items), gate=gate, consent=consent, prepare=prepare)
    own = [policy_of(folder) for folder in folders]
    asked = HubConsent(consent, folders, own)
    return UserNode(_find(users, own, items), gate=gate, consent=asked, prepare=prepare)


def folders_of(config: Mapping[str, Value]) -> list[Path]:
    """Return the folders of the devices, in the order of their names. Raises: ConfigError where there is none."""
    if STORE in config:
        found = [Path(str(config[STORE]))]
    else:
        hub = Path(str(config[HUB]))
        found = sorted(each for each in hub.iterdir() if each.is_dir()) if hub.is_dir() else []
        found = [each for each in found if DeviceFolder(each).store.exists()]
    if not found or not DeviceFolder(found[0]).store.exists():
        raise ConfigError(f"{config.get(STORE, config.get(HUB))}: there is no store; record an event first")
    return found


def _find(users: list[StoredUser], policies: list[Policy], items: Path) -> Find:
    stored = StoredUsers(users, policies)
    return lambda _: Hosted(stored, _read(items))


def _items_of(config: Mapping[str, Value]) -> Path:
    items = Path(str(config.get("items", "")))
    if not items.is_file():
        raise ConfigError(f"items={items}: no such file; `fedrec.recommend.run_items` makes one from a catalogue")
    return items


@lru_cache(maxsize=1)
def _read(items: Path) -> RunItems:
    try:
        return RunItems.read(items)
    except FedrecError as error:
        raise ConfigError(str(error)) from None
