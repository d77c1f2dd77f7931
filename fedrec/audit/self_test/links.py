"""Links and pipes in a received folder, and control characters for the terminal."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fedrec.audit.evidence.received_run import LEDGER, STATEMENT
from fedrec.audit.log.keys import new_key
from fedrec.audit.self_test.attack import Attack
from fedrec.audit.self_test.genuine import resigned
from fedrec.audit.self_test.stage import Stage, harmless, refused

SECRET = "what an auditor keeps for themselves"
ESCAPES = "\x1b[2J\x1b]0;verified\x07\x9b31m\u202e"


def attacks() -> Iterator[Attack]:
    """Yield all attacks by links, pipes and control characters."""
    for command in ("report", "witness"):
        yield Attack("link", f"`{command}` writes through a link", _written(command))
    for name in (STATEMENT, LEDGER, "scenario.toml", "model/manifest.json"):
        yield Attack("link", f"`export` packs what {name} points to", _packed(name))
        yield Attack("link", f"`verify` reads {name} through a link", _read(name))
    yield Attack("link", "a pipe that never ends in the place of the statement", _pipe)
    yield Attack("link", "the folder privacy/ is a link", _folder)
    for command in ("verify", "show", "diff", "combine"):
        yield Attack("terminal", f"a scenario's name that clears the screen, `{command}`", _escapes(command))


def _victim(stage: Stage) -> Path:
    victim = stage.path("victim")
    victim.write_text(SECRET, encoding="utf-8")
    return victim


def _written(command: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run, victim = stage.copy(), _victim(stage)
        witness = stage.path("witness.pem")
        public = new_key(witness).public
        more: list[object] = []
        place = run / "report.html"
        if command == "witness":
            place = run / "release/privacy" / f"witness-{public.id}.note"
            more = ["--key", stage.pub, "--witness-key", witness, "--memory", stage.path("memory")]
        place.unlink(missing_ok=True)
        place.symlink_to(victim)
        found = harmless(stage.commands.run("audit", command, run, *more))
        return found or (None if victim.read_text(encoding="utf-8") == SECRET else "the file behind it was replaced")

    return play


def _packed(name: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run, file = stage.copy(), stage.path("run.zip")
        _linked(run / "release" / name, _victim(stage))
        found = refused(stage.commands.run("audit", "export", run, "-o", file), (2, 4))
        return found or ("the export was written" if file.exists() else None)

    return play


def _read(name: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        elsewhere = stage.path("elsewhere")
        elsewhere.write_bytes((run / "release" / name).read_bytes())
        _linked(run / "release" / name, elsewhere)
        answer = stage.verified(run)
        return refused(answer, (2, 4)) or harmless(answer, (SECRET,))

    return play


def _linked(place: Path, target: Path) -> None:
    place.unlink()
    place.symlink_to(target)


def _pipe(stage: Stage) -> str | None:
    run = stage.copy()
    place = run / "release" / STATEMENT
    place.unlink()
    os.mkfifo(place)
    return refused(stage.verified(run), (2, 4))


def _folder(stage: Stage) -> str | None:
    run, elsewhere = stage.copy(), stage.path("elsewhere")
    os.rename(run / "release/privacy", elsewhere)
    (run / "release/privacy").symlink_to(elsewhere)
    return refused(stage.verified(run), (2, 4))


def _escapes(command: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        resigned(run, stage.key, lambda payloads: payloads[0]["scenario"].update(name=ESCAPES))
        more: list[object] = ["--key", stage.pub] if command == "verify" else [stage.plain] if command == "diff" else []
        return harmless(stage.commands.run("audit", command, run, *more), tuple(ESCAPES[-1]))

    return play
