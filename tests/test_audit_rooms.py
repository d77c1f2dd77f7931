"""The rooms of `fedrec.audit`, as a table that every file there is held to."""

import graphlib

import pytest

from tests.syntax import imports
from tests.test_architecture import PACKAGED, ROOT, name_of, text_of, within

AUDIT: dict[str, set[str]] = {
    "log": set(),
    "card": {"log"},
    "accountant": set(),
    "empirical": set(),
    "entries": set(),
    "evidence": {"log", "entries"},
    "budget": {"log", "entries"},
    "statement": {"log", "accountant", "entries", "evidence"},
    "verify": {"log", "card", "accountant", "entries", "evidence", "statement"},
    "report": {"log", "accountant", "entries", "evidence", "statement"},
    "cli": {"log", "card", "evidence", "budget", "statement", "verify", "report"},
    "self_test": {"log", "entries", "evidence", "statement", "report"},
}
"""Room of `fedrec.audit` -> the other rooms of it that it may import.

`log` is a transparency log of any content; `accountant` recomputes epsilon without the code that training uses.
"""
TRAINING = {
    "entries": {"fedrec.privacy.accounting"},
    "empirical": {"fedrec.privacy.plan"},
    "budget": {"fedrec.privacy.accounting", "fedrec.privacy.filters"},
    "statement": {"fedrec.privacy.accounting", "fedrec.privacy.description", "fedrec.privacy.plan"},
    "verify": {"fedrec.privacy.accounting", "fedrec.privacy.filters"},
    "cli": {"fedrec.privacy.filters"},
    "self_test": {"fedrec.privacy.plan", "fedrec.privacy.queries"},
}
"""Room of `fedrec.audit` -> the modules of training's accounting that it may import; no other room imports any."""


def audit_violations(module: str, source: str) -> list[str]:
    """Return the forbidden imports of the file `module` of `fedrec.audit`, also those under TYPE_CHECKING."""
    place = module.removeprefix("fedrec.audit").strip(".")
    room = place.split(".")[0]
    if not place:
        return []
    if room not in AUDIT:
        return [f"{module}: room '{room}' is not in the table"]
    own = {f"fedrec.audit.{each}" for each in {room, *AUDIT[room]}} | {"fedrec.audit.commands"}
    found = []
    for name in sorted(imports(source)):
        inside = within(name, "fedrec.audit") and not any(within(name, each) for each in own)
        training = within(name, "fedrec.privacy") and not any(within(name, each) for each in privacy_of(room))
        if inside or training:
            found.append(f"{module} imports {name}")
    return found


def privacy_of(room: str) -> set[str]:
    return TRAINING.get(room, set())


AUDIT_FILES = [file for file in PACKAGED if within(name_of(file), "fedrec.audit")]


@pytest.mark.parametrize("file", AUDIT_FILES, ids=name_of)
def test_audit_rooms_import_one_way(file):
    assert audit_violations(name_of(file), text_of(file)) == []


def test_the_audit_table_has_no_cycle():
    order = graphlib.TopologicalSorter(AUDIT).static_order()
    assert set(order) == set(AUDIT), "every room that a row names has a row"
    folders = {file.relative_to(ROOT / "fedrec/audit").parts[0] for file in AUDIT_FILES if file.parent.name != "audit"}
    assert folders == set(AUDIT), "a room that is gone leaves the table, too"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fedrec.audit.log.ledger", "from fedrec.audit.entries.records import BeginRecord"),
        ("fedrec.audit.log.ledger", "if TYPE_CHECKING:\n    from fedrec.audit.statement.statement import statement"),
        ("fedrec.audit.log.ledger", "def late():\n    import fedrec.audit.evidence.layout"),
        ("fedrec.audit.accountant.recompute", "from fedrec.privacy.accounting import epsilon_pld"),
        ("fedrec.audit.statement.statement", "from fedrec.audit import verify"),
        ("fedrec.audit.report.html", "from fedrec.privacy.plan import PrivacyPlan"),
        ("fedrec.audit.helper", "import math"),
    ],
)
def test_the_audit_table_catches_a_planted_violation(module, source):
    assert len(audit_violations(module, source)) == 1
