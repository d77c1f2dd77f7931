"""The private values of `fedrec_client.edge.about_person` as the store has them: JSON, sealed like all else there."""

import json

from fedrec.errors import VerificationError
from fedrec_client.store import Store

ENOUGH = 3
"""Events that count from which on answers do not."""
ANSWERS, ATTRIBUTES = "answers", "attributes"
FRIENDS, OWN_SHARE = "friends", "share"
"""Names of the values in the store."""


def answers_in(store: Store) -> dict[str, list[str]]:
    """Return the labels that a person chose, by block.

    Raises:
        VerificationError: for a private value that no EdgeClient wrote.
    """
    return {str(name): [str(label) for label in labels] for name, labels in kept(store, ANSWERS).items()}


def attributes_in(store: Store) -> dict[str, str]:
    """Return the private attributes by name.

    Raises:
        VerificationError: for a private value that no EdgeClient wrote.
    """
    return {str(name): str(value) for name, value in kept(store, ATTRIBUTES).items()}


def kept(store: Store, name: str) -> dict[str, list[str] | str]:
    """Return a private value of `AboutPerson`; empty where there is none. Raises: VerificationError."""
    content = store.state(name)
    try:
        found = {} if content is None else json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, list | str) for each in found.values()):
        raise VerificationError(f"the private value '{name}' was not written by fedrec; take it back with drop_state")
    return found
