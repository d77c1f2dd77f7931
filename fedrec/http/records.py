"""What every HTTP service takes and gives, as closed typed records."""

from pydantic import ConfigDict

from fedrec.record_parts import ClosedPart


class Taken(ClosedPart):
    """A request: no other fields, no numbers that are not finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Nothing(Taken):
    """An empty object."""


class Fault(ClosedPart):
    """Why there is no answer."""

    code: str
    """For programs."""
    message: str
    """One line: what, and how to fix it."""


class Refused(ClosedPart):
    """The answer to a request that was refused or failed."""

    error: Fault
    """Its only field."""
