"""The part of a deployment's first record that devices need beside the promise (`fedrec.audit.card.card`), typed."""

from typing import Annotated

from pydantic import Field

from fedrec.record_parts import ClosedPart, Count, Hash, OpenPart, Text


class HelperTerms(ClosedPart):
    """The second party that keeps the masks (`fedrec.audit.card.helper`)."""

    key: Text
    """Ed25519, as `ed25519:BASE64`"""
    seeds: Hash
    """X25519"""
    proof: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    """Signature of `key` on `seeds`"""
    address: Text


class CardTerms(OpenPart):
    """What a device needs of a deployment beside the promise (`fedrec.audit.card.card`)."""

    serial: Count
    """Microseconds since 1970 at which the card was made"""
    expires: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    """The time, in UTC, from which nobody answers"""
    fingerprint: Hash
    """Of the run's whole description"""
    minimum_cohort: Count
    """Users expected in a round in which only the fewest nodes answer"""
    nodes: Count
    receipts: bool
    """Whether each node must sign a receipt for every answer"""
    roster: Hash | None = None
    """Root over the nodes' keys for masks, in their order; null in a run without masks"""
    helper: HelperTerms | None = None
    """Who keeps the masks; null where the nodes keep them, or there are none"""
