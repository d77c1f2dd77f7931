"""The computation of a device that needs torch, in a process that ends with its question: memory returns to the system.

`python -m fedrec_client.participation.torch_child` reads questions from its input and answers on its output, each as a
length and an `.npz` file without pickles. The parent has the gate, the ledger, the store, the coins and the noise; the
child gets public tensors and one history at a time, and returns that person's clipped integers.

| asked | with | answered |
|---|---|---|
| first | the run's description, the catalogue's file | rounds, and the sums of each round |
| `fault` | round, shared tensors | what the algorithm refuses in them |
| `add` | a history with times, ratings and attributes, a key, encodings | integers of each sum, without noise |
"""

import contextlib
import io
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

ABOUT = "about"
"""Name of the part of a message that is JSON, as bytes."""


def send(stream: IO[bytes], about: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
    """Write a message. about: JSON-able."""
    made = io.BytesIO()
    parts: dict[str, Any] = {f"array.{name}": part for name, part in (arrays or {}).items()}
    parts[ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(made, **parts)
    content = made.getvalue()
    stream.write(struct.pack("<Q", len(content)) + content)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a message. Raises: EOFError when the other side has ended."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    content = stream.read(struct.unpack("<Q", head)[0])
    found = np.load(io.BytesIO(content), allow_pickle=False)
    arrays = {name.removeprefix("array."): found[name] for name in found.files if name != ABOUT}
    return json.loads(found[ABOUT].tobytes()), arrays


def main(given: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the parent ends."""
    import torch

    from fedrec.data.datasets import DataConfig, public_catalogue
    from fedrec.data.people import People
    from fedrec.data.users import UserBatch
    from fedrec.federation.spec import parse_spec
    from fedrec.plugins import only
    from fedrec.privacy.clipping import clip_weights
    from fedrec.privacy.discrete.encoding import Encoding
    from fedrec.privacy.integers import EncodedIntegers, ExactIntegers, Integers
    from fedrec.rowwise import rowwise

    cpu = torch.device("cpu")
    asked, _ = receive(given)
    spec = parse_spec(asked["spec"])
    with only(frozenset()):  # no installed code of others
        made = spec.build(public_catalogue(DataConfig(name="nodes", catalogue=Path(asked["catalogue"])), None, 0)[0])
    described = min(made.rounds, asked["most"] + 1)
    asked_for = [made.queries(number) for number in range(described)]
    rounds = [[(q.name, q.shape, q.clip_norm, q.packed, q.bits) for q in queries] for queries in asked_for]
    send(answers, {"rounds": rounds})
    shared: dict[str, torch.Tensor] = {}
    number = 0
    while True:
        asked, arrays = receive(given)
        if asked["asked"] == "fault":
            number = asked["round"]
            shared = {name: torch.from_numpy(part.copy()) for name, part in arrays.items()}
            send(answers, {"fault": made.fault(shared, number)})
            continue
        items = torch.from_numpy(arrays["items"])
        users = UserBatch(
            items,
            torch.tensor([len(items)]),
            len(made.facts.catalogue),
            torch.tensor([asked["key"]]),
            ratings=torch.from_numpy(arrays["ratings"]) if "ratings" in arrays else None,
            times=torch.from_numpy(arrays["times"]) if "times" in arrays else None,
            people=People.of([asked["attributes"]]) if asked["attributes"] else None,
        )
        found = {}
        with rowwise(cpu):
            parts = made.contribute(shared, users, number)
            for query in made.queries(number):
                part, values = parts[query.name], asked["encodings"].get(query.name)
                kind: Integers = ExactIntegers(spec.users)
                if values is not None:
                    kind = EncodedIntegers(lambda *_, values=values: Encoding(**values), spec.users, spec.seed)
                total = kind.zeros(query, number, cpu)
                kind.add(total, query, number, part, clip_weights(part, query.clip_norm), users.keys)
                found[query.name] = total.numpy()
        send(answers, {}, found)


if __name__ == "__main__":
    with contextlib.suppress(EOFError):  # the parent ended
        main(sys.stdin.buffer, sys.stdout.buffer)
