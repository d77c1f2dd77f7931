"""Damages: flipped bits, cut files, deep JSON, zip bombs, absurd numbers."""

import base64
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedrec.audit.evidence.received_run import LEDGER, MODEL, STATEMENT
from fedrec.audit.self_test.attack import Attack
from fedrec.audit.self_test.genuine import Payload, resigned
from fedrec.audit.self_test.stage import Stage, refused

DEPTH = 10_000
BOMB_MB = 400
FLIPS = 30
FILES = (LEDGER, "privacy/checkpoint", STATEMENT, "privacy/statement.md", "privacy/report.html", "privacy/ledger.pub")
FIXED = (*FILES, "scenario.toml", "model/manifest.json", MODEL)
"""The files of a release; a change of any bit of any of them must be noticed."""


def attacks(seed: int) -> Iterator[Attack]:
    """Yield all damages, at places drawn with `seed`."""
    draw = random.Random(seed)
    for number in range(FLIPS):
        name = FIXED[number % len(FIXED)]
        yield Attack("damage", f"{name}: a bit flipped", _changed(name, _flipped(draw.random(), draw.randrange(8))))
    for name in FIXED:
        yield Attack("damage", f"{name}: cut in half", _changed(name, lambda content: content[: len(content) // 2]))
        yield Attack("damage", f"{name}: emptied", _changed(name, lambda _: b""))
    deep = b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
    for name in (STATEMENT, "model/manifest.json"):
        yield Attack("damage", f"{name}: JSON {DEPTH:,} levels deep", _changed(name, lambda _: deep))
    yield Attack("damage", "ledger: a record of deep JSON", _every_command(_deep_record))
    yield Attack("damage", "ledger: no text at all", _every_command(lambda _: bytes(range(256)) * 64))
    for name, change in _ARCHIVES.items():
        yield Attack("damaged export", name, _archive(change))
    yield Attack("damaged export", "names a file above its folder", _above)
    for name, lie in _ABSURD.items():
        for command in ("verify", "show", "combine"):
            yield Attack("absurd number", f"{name}, `{command}`", _absurd(command, lie))


def _changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        place = run / "release" / name
        place.write_bytes(change(place.read_bytes()))
        return refused(stage.verified(run), (2, 4))

    return play


def _flipped(share: float, bit: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        place = int(share * len(content))
        return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]

    return change


def _deep_record(content: bytes) -> bytes:
    first, _, rest = content.partition(b"\n")
    envelope = json.loads(first)
    envelope["payload"] = base64.b64encode(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH).decode()
    return json.dumps(envelope, separators=(",", ":")).encode() + b"\n" + rest


def _every_command(change: Callable[[bytes], bytes]) -> Callable[[Stage], str | None]:
    """Play the same ledger to every command that reads one."""

    def play(stage: Stage) -> str | None:
        run = stage.copy()
        place = run / "release" / LEDGER
        place.write_bytes(change(place.read_bytes()))
        lines: list[list[object]] = [
            ["verify", run, "--key", stage.pub],
            ["show", run],
            ["report", run, "-o", stage.path("page.html")],
            ["diff", stage.plain, run],
            ["combine", run],
            ["prove", run, "--round", "1"],
        ]
        for line in lines:
            found = refused(stage.commands.run("audit", *line), (2, 4))
            if found is not None:
                return f"`{line[0]}`: {found}"
        return None

    return play


def _archive(change: Callable[[bytes], bytes], codes: tuple[int, ...] = (2, 4)) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        file = stage.path("run.zip")
        made = stage.commands.run("audit", "export", stage.plain, "-o", file)
        if made.code != 0:
            return f"a genuine run could not be exported: {made.output.strip()}"
        file.write_bytes(change(file.read_bytes()))
        return refused(stage.verified(file), codes) or refused(stage.commands.run("audit", "show", file), (0, 2, 4))

    return play


def _above(stage: Stage) -> str | None:
    """Check that nothing is unpacked above the folder, for any verdict."""
    name = "outside.txt"
    found = _archive(_with(f"../../{name}", b"x"), (0, 2, 4))(stage)
    there = (stage.folder / name, stage.folder.parent / name, Path.cwd().parent.parent / name)
    return found or ("it was written" if any(place.exists() for place in there) else None)


def _with(name: str, content: bytes) -> Callable[[bytes], bytes]:
    """Return a change that replaces or adds one file of an archive."""

    def change(whole: bytes) -> bytes:
        found, made = zipfile.ZipFile(io.BytesIO(whole)), io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in found.namelist():
                if each != name:
                    archive.writestr(each, found.read(each))
            archive.writestr(name, content)
        return made.getvalue()

    return change


def _bomb(whole: bytes) -> bytes:
    """Add a statement of a few hundred kilobytes that unpacks to hundreds of megabytes."""
    found, made = zipfile.ZipFile(io.BytesIO(whole)), io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each in found.namelist():
            if each != STATEMENT:
                archive.writestr(each, found.read(each))
        with archive.open(STATEMENT, "w", force_zip64=True) as file:
            for _ in range(BOMB_MB):
                file.write(bytes(1 << 20))
    return made.getvalue()


def _double(whole: bytes) -> bytes:
    """Make an archive with two ledgers, of which a reader may read either."""
    import warnings

    made = io.BytesIO(whole)
    with warnings.catch_warnings(), zipfile.ZipFile(made, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(LEDGER, b"")
    return made.getvalue()


_ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "unpacks to hundreds of megabytes": _bomb,
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "a byte changed": lambda whole: whole[:60] + bytes([whole[60] ^ 4]) + whole[61:],
    "holds two ledgers": _double,
    "a statement of deep JSON": _with(STATEMENT, b"[" * DEPTH),
    "an empty ledger": _with(LEDGER, b""),
}


def _absurd(command: str, lie: Callable[[list[Payload]], Any]) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        resigned(run, stage.key, lie)
        more = ["--key", stage.pub] if command == "verify" else []
        return refused(stage.commands.run("audit", command, run, *more), (2, 4))

    return play


def _beginning(**fields: Any) -> Callable[[list[Payload]], Any]:
    return lambda payloads: payloads[0].update(fields)


def _events(**fields: Any) -> Callable[[list[Payload]], Any]:
    def change(payloads: list[Payload]) -> None:
        for payload in payloads:
            if payload.get("type") == "charge":
                payload["sampling"] = fields.get("sampling", payload["sampling"])
                for event in payload["events"]:
                    event.update(fields)

    return change


def _end(payloads: list[Payload]) -> Payload:
    return next(payload for payload in payloads if payload.get("type") == "end")


_ABSURD: dict[str, Callable[[list[Payload]], Any]] = {
    "a trillion rounds": _beginning(rounds=10**12),
    "hardly any noise on a sample": _events(noise_multiplier="0.0001", sampling="0.01"),
    "an event a trillion times": _events(count=10**12),
    "a negative round": lambda payloads: payloads[1].update(round=-1),
    "a round that is a text": lambda payloads: payloads[1].update(round="0"),
    "an epsilon of 10^300": lambda payloads: payloads[1].update(epsilon={"pld": "1e300", "rdp": "1e300"}),
    "a delta of 0": _beginning(delta="0"),
    "a cap that is no number": _beginning(target_epsilon="nan"),
    "a charge without queries": lambda payloads: payloads[1].pop("queries"),
    "an end that is a list": lambda payloads: _end(payloads).update(rounds=[]),
}
