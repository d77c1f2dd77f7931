"""The version of the sentences in a statement: a digest of the sources that they come from.

Facts follow from the ledger alone, sentences from the ledger and this code. A ledger records whose sentences its
statement has, so that another version of fedrec can tell an edited sentence from one that was written otherwise.
"""

import hashlib
from functools import lru_cache
from importlib.resources import files

SOURCES = ("adversaries", "assumptions", "checklists", "promise", "statement", "markdown")


@lru_cache(maxsize=1)
def wording() -> str:
    """SHA-256 (hex) of the modules that write sentences of a statement."""
    found = hashlib.sha256()
    for name in SOURCES:
        found.update((files("fedrec.audit.statement") / f"{name}.py").read_bytes())
    return found.hexdigest()
