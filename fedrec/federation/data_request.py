"""DataRequest: which data a run is about, as one JSON text that server and nodes read alike."""

import json
from typing import Literal

from pydantic import Field

from fedrec.data.datasets import DataConfig
from fedrec.errors import InputError
from fedrec.settings import Settings, parse


class DataRequest(Settings):
    """Which public log a node takes its shard of. A node with data of its own applies `min_rating`,
    `dropped_as_negatives`, `repeats`, `ordered`, `cleaning` and `balance.most_events` alone, none of which changes how
    many users it hosts; which files and columns it reads, its own configuration says."""

    data: DataConfig
    """The scenario's table."""
    on: Literal["test", "validation"] = "test"
    """Which events are held out."""
    seed: int = Field(ge=0)
    """The public seed: generated data and splits come from it."""

    def text(self) -> str:
        """Return the request as one JSON text, for `parse_data`."""
        values = self.model_dump(mode="json")
        for name in ("vectors", "cleaning", "people"):  # the text of a run without them is that of older versions
            if values["data"][name] is None:
                del values["data"][name]
        return json.dumps(values, sort_keys=True)


def parse_data(text: str) -> DataRequest:
    """Parse a text of `DataRequest.text`. Raises: InputError."""
    try:
        return parse(DataRequest, json.loads(text), "the data that the run is about")
    except (ValueError, TypeError, RecursionError):
        raise InputError("the data that the run is about: not readable") from None
