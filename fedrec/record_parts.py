"""Parts of signed records: the kinds of their fields, and the base classes of their types.

A record is written from its type (`Record.payload`) and read into it. Three rules keep the text of older records:

- The signed text counts. Hashes and signatures are made over it; a type is a view of it.
- An open record keeps fields that it has no name for. A record of a newer version gives the same payload again.
- Only fields that were given are written. A new field has a default, and its writer gives it where there is a value:

      card: RunCard | None = None
      \"\"\"The run card; null: before runs had one\"\"\"

  A record without it has the text of before, so that older ledgers and golden files do not change.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fedrec.json_types import Json

Decimal = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(e[-+]?[0-9]{1,3})?$", max_length=40)]
"""A finite number that is not negative, as text."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Rounds = Annotated[int, Field(ge=0, le=10_000_000)]
Text = Annotated[str, Field(max_length=4096)]
Lines = Annotated[list[Text], Field(max_length=1000)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _within(low: float, high: float) -> AfterValidator:
    def check(text: str) -> str:
        if not low < float(text) <= high:
            raise ValueError(f"must lie above {low:g} and not above {high:g}")
        return text

    return AfterValidator(check)


Probability = Annotated[Decimal, _within(0, 1)]
Delta = Annotated[Decimal, _within(0, 1)]
Epsilon = Annotated[Decimal, _within(-1, 1e12)]
Multiplier = Annotated[Decimal, _within(0.01, 1e150)]
"""Standard deviation of the noise of a whole round over its clip; less belongs to an epsilon above 1000."""


def _noise(text: str) -> str:
    if float(text) != 0 and not 0.01 < float(text) <= 1e150:
        raise ValueError("must be 0, or lie above 0.01 and not above 1e+150")
    return text


Noise = Annotated[Decimal, AfterValidator(_noise)]
"""The same for one query, which has at least the noise of its round; 0 without privacy."""
Clip = Annotated[Decimal, _within(1e-150, 1e150)]

Positive = Annotated[Decimal, _within(0, 1e300)]


class ClosedPart(BaseModel):
    """A part that holds what is named, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class OpenPart(BaseModel):
    """A part that may hold more than is named. What has no name is kept as it is."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, use_attribute_docstrings=True)


class Record(OpenPart):
    """The typed payload of a record."""

    def payload(self) -> Json:
        """Return the payload as JSON: every field that was given, and those without a name."""
        return self.model_dump(exclude_unset=True)


class ClosedRecord(Record):
    """A record that holds what is named, and nothing else."""

    model_config = ConfigDict(extra="forbid")
