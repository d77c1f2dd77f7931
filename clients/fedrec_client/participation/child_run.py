"""A run on a device whose algorithm needs torch: a child process computes it, and ends with its question.

Card, ledger, store, coins and noise stay here (`device_run`); see `torch_child` for what the child gets.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fedrec.errors import InputError
from fedrec.ondevice.history import History
from fedrec.ondevice.training.base import DeviceQuery, Part, RunFacts, Shared, Training
from fedrec.wire import WireError
from fedrec_client.participation.torch_child import receive, send

COMMAND = (sys.executable, "-m", "fedrec_client.participation.torch_child")


class Child:
    """A child process.

    Args:
        spec: text of the run's description.
        catalogue: file of the public items, as the server has it.
        most: see `trained`.

    Attributes:
        rounds: the sums of each round.
    """

    def __init__(self, spec: str, catalogue: Path, most: int) -> None:
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        about, _ = self._ask({"spec": spec, "catalogue": str(catalogue), "most": most})
        self.rounds: list[tuple[DeviceQuery, ...]] = [
            tuple(DeviceQuery(name, tuple(shape), clip, packed, bits=bits) for name, shape, clip, packed, bits in row)
            for row in about["rounds"]
        ]

    def fault(self, shared: Shared, round_index: int) -> str:
        """Give the child a round's tensors. Returns: what the algorithm refuses in them."""
        return str(self._ask({"asked": "fault", "round": round_index}, shared)[0]["fault"])

    def integers(self, history: History, key: int, encodings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return a person's integers of each sum, without noise."""
        about = {"asked": "add", "key": key, "encodings": encodings, "attributes": dict(history.attributes)}
        arrays = {"items": history.items, "times": history.times, "ratings": history.ratings}
        return self._ask(about, {name: part for name, part in arrays.items() if part is not None})[1]

    def end(self) -> None:
        """End the process, and wait for it."""
        self._process.kill()
        self._process.communicate()

    def _ask(
        self, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None
        assert answers is not None
        try:
            send(given, about, arrays)
            return receive(answers)
        except (EOFError, OSError):
            self.end()
            raise WireError("request", "the process with torch ended; is fedrec[train] installed here?") from None


class TorchTraining(Training):
    """The device's side of any built-in algorithm, by a child process for each question.

    Args:
        text: the run's description.
        name: of the algorithm.
        catalogue: file of the public items.
        items: how many they are.
        most: see `trained`.
    """

    algorithm = "any"

    def __init__(self, text: str, name: str, catalogue: Path, items: int, most: int) -> None:
        super().__init__({}, RunFacts(items))
        self._text, self._catalogue, self.name, self._most = text, catalogue, name, most
        self._child: Child | None = None
        self._rounds: list[tuple[DeviceQuery, ...]] = []
        self._begun()
        self.end()

    @property
    def rounds(self) -> int:
        return len(self._rounds)

    def queries(self, round_index: int) -> tuple[DeviceQuery, ...]:
        return self._rounds[round_index]

    def parts(self, shared: Shared, history: History, round_index: int) -> dict[str, Part]:
        raise InputError(f"'{self.name}' is computed in a process of its own")

    def fault(self, shared: Shared, round_index: int) -> str:
        """Start the question's child; return what the algorithm refuses in the tensors."""
        self.end()
        return self._begun().fault(shared, round_index)

    def integers(self, history: History, key: int, encodings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return a person's integers, after `fault` of the same question."""
        if self._child is None:
            raise InputError("no process of this question is running")
        made = {name: asdict(each) for name, each in encodings.items()}
        return self._child.integers(history, key, made)

    def end(self) -> None:
        """End the question's child, whose memory returns to the system."""
        if self._child is not None:
            self._child.end()
        self._child = None

    def _begun(self) -> Child:
        self._child = Child(self._text, self._catalogue, self._most)
        self._rounds = self._child.rounds
        return self._child


def trained(spec: str, name: str, catalogue: Path | None, items: int, most: int) -> TorchTraining:
    """Return the device's side of an algorithm that needs torch.

    Args:
        spec: the run's description.
        name: of the algorithm.
        catalogue: file of the public items; None where the device has none.
        items: how many they are.
        most: rounds of a run, at most; of a longer one, one more is described.

    Raises: WireError.
    """
    if catalogue is None:
        raise WireError("request", f"'{name}' needs torch and the catalogue's file; start with --catalogue")
    return TorchTraining(spec, name, catalogue, items, most)
