"""Where a node's policy and device ledger are, by its `--node-config`; nothing of it in a simulation's virtual node.

| key | meaning |
|---|---|
| `policy` | the policy's file; the defaults of `fedrec client policy init` where it is left out |
| `state` | the node's own folder: `device-ledger.jsonl` is in it, and the ledger's counter next to it |
"""

import os
from collections.abc import Mapping
from pathlib import Path

from fedrec.errors import InputError
from fedrec_client.consent.consent import Consent
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import default_folder
from fedrec_client.consent.policy import BOUNDS, Policy, load
from fedrec_client.node import COMPUTED
from fedrec_client.node_config import VIRTUAL, ConfigError, Value


def node_folder(config: Mapping[str, Value]) -> Path:
    """Return the node's own folder."""
    state = config.get("state")
    return Path(str(state)) if state else default_folder()


def policy_text(config: Mapping[str, Value]) -> str:
    """Return the text of the node's policy; "" for the defaults. Raises: ConfigError."""
    file = config.get("policy")
    if file is None or os.environ.get(VIRTUAL) == "1":
        return ""
    try:
        return load(Path(str(file))).text()
    except InputError as error:
        raise ConfigError(str(error)) from None


def consent_of(config: Mapping[str, Value], policy: Policy) -> Consent:
    """Return what decides for a node with this configuration.

    Raises: VerificationError for a damaged ledger; InputError for one that cannot be used.
    """
    if os.environ.get(VIRTUAL) == "1":
        return Consent(BOUNDS, computes=COMPUTED)
    ledger = DeviceLedger(node_folder(config) / FILE, policy)
    ledger.open()
    return Consent(policy, ledger, COMPUTED)
