"""Two pasts of one run: forks, roll-backs, and proofs of another ledger."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from fedrec.audit.evidence.received_run import CHECKPOINT
from fedrec.audit.log.keys import new_key
from fedrec.audit.self_test.attack import Attack
from fedrec.audit.self_test.genuine import Payload, resigned
from fedrec.audit.self_test.stage import Stage, refused


def attacks() -> Iterator[Attack]:
    """All attacks on the past."""
    yield Attack("roll-back", "to an older state than a kept checkpoint", _older)
    yield Attack("roll-back", "to an older state than the own key has signed", _own_mark)
    yield Attack("roll-back", "shown to a witness", _witnessed)
    yield Attack("fork", "against a kept checkpoint", _against_a_copy)
    for command in ("combine", "diff"):
        yield Attack("fork", f"two pasts of one run in `{command}`", _both(command))
    yield Attack("proof", "of a round, with a byte changed", _proof)
    yield Attack("proof", "under another key", _other_key)


def _rolled_back(stage: Stage) -> tuple[Path, Path]:
    """Return a run without its last records and with matching files, and the checkpoint of before."""
    run, kept = stage.copy(), stage.path("kept.note")
    shutil.copy(run / "release" / CHECKPOINT, kept)
    resigned(run, stage.key, _without_the_last)
    return run, kept


def _without_the_last(payloads: list[Payload]) -> None:
    del payloads[3:]


def _older(stage: Stage) -> str | None:
    run, kept = _rolled_back(stage)
    return refused(stage.verified(run, "--older", kept))


def _own_mark(stage: Stage) -> str | None:
    run, _ = _rolled_back(stage)
    return refused(stage.commands.run("audit", "verify", run, "--key", stage.pub, settings=stage.home))


def _witnessed(stage: Stage) -> str | None:
    witness, memory = stage.path("witness.pem"), stage.path("memory")
    new_key(witness)
    more = ["--key", stage.pub, "--witness-key", witness, "--memory", memory, "-o"]
    first = stage.commands.run("audit", "witness", stage.copy(), *more, stage.path("first.note"))
    if first.code != 0:
        return f"a genuine run was not cosigned: {first.output.strip()}"
    run, _ = _rolled_back(stage)
    return refused(stage.commands.run("audit", "witness", run, *more, stage.path("second.note")))


def _forked(payloads: list[Payload]) -> None:
    end = next(payload for payload in payloads if payload.get("type") == "end")
    end["state"] = "1" * 64


def _against_a_copy(stage: Stage) -> str | None:
    run, kept = stage.copy(), stage.path("kept.note")
    shutil.copy(run / "release" / CHECKPOINT, kept)
    resigned(run, stage.key, _forked)
    return refused(stage.verified(run, "--older", kept))


def _both(command: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        resigned(run, stage.key, _forked)
        return refused(stage.commands.run("audit", command, stage.plain, run), (2, 4))

    return play


def _proof(stage: Stage) -> str | None:
    proof = stage.path("round.proof")
    made = stage.commands.run("audit", "prove", stage.copy(), "--round", "1", "-o", proof)
    if made.code != 0:
        return f"no proof of a genuine round: {made.output.strip()}"
    proof.write_bytes(proof.read_bytes().replace(b'"round":1', b'"round":2', 1))
    return refused(stage.commands.run("audit", "check-proof", proof, "--key", stage.pub), (2, 4))


def _other_key(stage: Stage) -> str | None:
    proof, other = stage.path("round.proof"), stage.path("other.pem")
    stage.commands.run("audit", "prove", stage.copy(), "--round", "1", "-o", proof)
    public = new_key(other).public.text
    return refused(stage.commands.run("audit", "check-proof", proof, "--key", public))
