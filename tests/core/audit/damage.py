"""Damaged and lying runs, thousands of them, each given to a command of `fedrec audit`.

Run as a program in a process of its own, whose memory has a limit:
`python -m tests.core.audit.damage COUNT SEED [sampled]`.
"""

import contextlib
import copy
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from fedrec.audit.budget import budget, budget_file
from fedrec.audit.card.receipt import Receipt
from fedrec.audit.cli import commands
from fedrec.audit.evidence.received_run import CHECKPOINT, LEDGER, PUBLIC_KEY, export
from fedrec.audit.log import keys, proofs
from fedrec.audit.log.chain import read
from fedrec.audit.log.keys import KEY_VARIABLE, MARKS_VARIABLE, SigningKey
from fedrec.cli import run as fedrec
from fedrec.errors import VerificationError
from fedrec.privacy.accounting import Event
from fedrec.transport.node_key import load_node_key, new_node_key
from tests.core.audit import carded, ledgers
from tests.core.audit.audited_run import BUDGET

MEMORY = 1 << 30
"""Bytes that a command may need beyond the program itself."""
SECONDS = 10.0
THIEF = SigningKey.generate()
NUMBERS = [-1, 0, 1, 2, 10**12, 2**63, 10**40, 0.5, -1e308, 1e308, 5e-324, True, False]
TEXTS = ["", "0", "-0", "-1", "1", "nan", "inf", "1e999", "1e-999", "1e-320", "1e150", "1e12", "0.0001", "0.0100001"]
TEXTS += ["\x1b]0;x\x07", "\u202egood", "\udc80", "a" * 5000, "9" * 40, "ed25519:AAAA", "begin", "charge", "end", "key"]
WHOLE: list[Any] = [None, [], {}, [[]], [{}], {"a": {}}, [None] * 3, {"": 0}, ["0"] * 3]


def plans(sampled: bool) -> list[list[dict[str, Any]]]:
    """The payloads of whole runs of several kinds. sampled: also of one whose pricing takes seconds."""
    kinds: list[dict[str, Any]] = [{}, *([{"epsilon": 3.0, "sampling": 0.3}] if sampled else [])]
    made = [ledgers.payloads_of(ledgers.plan_of(**each)) for each in kinds]
    shared = copy.deepcopy(made[0])
    shared[0]["budget"] = json.loads(BUDGET.model_dump_json())
    attacked = [*made[0], {"type": "attack", "name": "canary", "epsilon_lower": "0.5", "confidence": "0.95"}]
    nothing = ledgers.payloads_of(ledgers.plan_of(epsilon="none"))
    stopped = [*made[0][:3], {"type": "stopped", "round": 1, "why": "no better", "unrun": [2]}, *made[0][3:]]
    return [*made, shared, attacked, nothing, stopped, [carded.begin(ledgers.KEY), carded.charge(0)]]


def deep(levels: int) -> Any:
    """JSON nested so deep."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


class Damage:
    """Draws damaged files. rng: decides on everything."""

    def __init__(self, rng: random.Random, *, sampled: bool) -> None:
        self.rng = rng
        self.runs = plans(sampled)

    def value(self, before: Any) -> Any:
        """Something else in the place of a value."""
        kind = self.rng.randrange(6)
        if kind == 0 and isinstance(before, int | float) and not isinstance(before, bool):
            return before + self.rng.choice([1, -1, 10**6, 0.5])
        if kind <= 1 and isinstance(before, str):
            return before + self.rng.choice(["0", "1", "e5", "e-200", " ", "\x00"])
        if kind == 2 and isinstance(before, list) and before:
            return self.rng.choice([before * 2, before[::-1], before[:-1], before * 300])
        return copy.deepcopy(self.rng.choice([*NUMBERS, *TEXTS, *WHOLE, deep(20), deep(150)]))

    def edited(self, value: Any) -> Any:
        """A copy with something else at one or more places."""
        value = copy.deepcopy(value)
        for _ in range(self.rng.choice([1, 1, 1, 2, 5])):
            holder, key = {"": value}, ""
            where: Any = holder
            while isinstance(where[key], dict | list) and where[key] and self.rng.random() < 0.85:
                where = where[key]
                key = self.rng.choice([*where]) if isinstance(where, dict) else self.rng.randrange(len(where))
            if isinstance(where, dict) and key and self.rng.random() < 0.2:
                del where[key]
            elif isinstance(where, dict) and self.rng.random() < 0.1:
                where[self.rng.choice(["new", "type", *where])] = self.value(None)
            else:
                where[key] = self.value(where[key])
            value = holder[""]
        return value

    def bytes(self, content: bytes) -> bytes:
        """Content with bits flipped, or a part cut out, put in, repeated or cut off."""
        for _ in range(self.rng.choice([1, 1, 1, 3])):
            place = self.rng.randrange(len(content) + 1)
            end = min(len(content), place + self.rng.choice([1, 2, 8, 100]))
            part = content[place:end]
            other = self.rng.choice(
                [b"", self.rng.randbytes(len(part)), part * 2, part[::-1], b"\x00", b"\n", b"\xff" * 9]
            )
            flipped = bytes([part[0] ^ 1 << self.rng.randrange(8)]) + part[1:] if part else b"x"
            content = content[:place] + self.rng.choice([other, flipped, flipped]) + content[end:]
            if self.rng.random() < 0.05:
                content = content[:place]
        return content

    def run(self) -> dict[str, bytes]:
        """Return the files of a run: damaged, forged by a thief, or signed by a dishonest owner."""
        payloads = self.rng.choice(self.runs)
        how = self.rng.randrange(4)
        key = THIEF if how == 1 else ledgers.KEY
        if how in (1, 2):
            payloads = self.lies(payloads)
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            return self.files(payloads, key, damage=how in (0, 3))
        return self.files(self.rng.choice(self.runs), key, damage=True)

    def lies(self, payloads: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return records of a dishonest owner of the key: changed, dropped, repeated, moved."""
        payloads = copy.deepcopy(payloads)
        place = self.rng.randrange(len(payloads))
        kind = self.rng.randrange(8)
        if kind == 0:
            del payloads[place]
        elif kind == 1:
            payloads.insert(self.rng.randrange(len(payloads) + 1), payloads[place])
        else:
            changed = self.edited(payloads[place])
            payloads[place] = changed if isinstance(changed, dict) else {"type": changed}
            if kind == 2:
                payloads = payloads + payloads[1:3] * 40
        return payloads

    def files(self, payloads: list[dict[str, Any]], key: SigningKey, *, damage: bool) -> dict[str, bytes]:
        """All files of a run with these payloads."""
        lines = ledgers.lines_of(payloads, key)
        files = dict(ledgers.FILES) | {LEDGER: b"".join(line + b"\n" for line in lines)}
        files |= {CHECKPOINT: ledgers.sealed(lines, key).note.encode(), PUBLIC_KEY: key.public.pem()}
        files["privacy/witness-1.note"] = ledgers.sealed(lines, key).cosigned("w", THIEF, 1).note.encode()
        files |= ledgers.stated(lines)
        if damage:
            name = self.rng.choice([LEDGER, LEDGER, *files])
            if name.endswith(".json") and self.rng.random() < 0.5:
                with contextlib.suppress(ValueError):
                    files[name] = json.dumps(self.edited(json.loads(files[name]))).encode()
            elif self.rng.random() < 0.1:
                files[name] = b"[" * 10_000 + b"]" * 10_000
            else:
                files[name] = self.bytes(files[name])
        return files


class Trial:
    """One process' worth of trials, in the folder `place`."""

    def __init__(self, rng: random.Random, place: Path, *, sampled: bool) -> None:
        self.rng, self.place, self.damage = rng, place, Damage(rng, sampled=sampled)
        self.good = place / "good"
        self.write(self.good, self.damage.files(self.damage.runs[0], ledgers.KEY, damage=False))
        (place / "good.note").write_bytes((self.good / CHECKPOINT).read_bytes())
        (place / "key.pem").write_bytes(ledgers.KEY.pem(None))
        (place / "key.pem").chmod(0o600)
        os.environ[KEY_VARIABLE] = str(place / "own.pem")
        os.environ[MARKS_VARIABLE] = str(place / "marks")
        keys.new_key(place / "own.pem")
        keys.new_key(place / "new.pem")
        fedrec(["audit", "budget", "new", str(place / "people.json"), "--epsilon", "4", "--delta", "1e-5"])
        events = [Event(0.5, 20.0, 3), Event(1.0, 30.0)]
        about = {"data": "toy", "users": 1000, "noise": "secret", "target_epsilon": "1.0"}
        budget_file.reserve(place / "people.json", "drew-it", events, about)
        lines = (self.good / LEDGER).read_bytes()
        sealed = ledgers.sealed(lines.splitlines())
        self.proofs = [proofs.of_record(read(lines), sealed, number).encode() for number in range(2)]
        before = proofs.Older("x", 2, read(lines).roots[2], None)
        self.proofs.append(proofs.of_growth(read(lines), sealed, before).encode())
        new_node_key(place / "node.key")
        node = load_node_key(place / "node.key")
        made = Receipt("run", 0, 1, "00" * 32, "00" * 32, 1, b"r" * 32, node.public).signed(node.sign)
        forks = {which: (self.good / CHECKPOINT).read_text() for which in ("older", "newer")}
        self.kept = [json.dumps(line).encode() + b"\n" for line in ({"receipt": made.text}, forks)]

    def write(self, folder: Path, files: Mapping[str, bytes]) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def received(self) -> Path:
        """A damaged run as a folder, or as a file, whole or itself damaged."""
        folder = self.write(self.place / "run", self.damage.run())
        if self.rng.random() < 0.6:
            return folder
        packed = self.place / "run.zip"
        try:
            content = export(folder)
        except Exception:  # what cannot be exported is packed all the same
            made = io.BytesIO()
            with zipfile.ZipFile(made, "w") as file:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        file.writestr(str(path.relative_to(folder)), path.read_bytes())
            content = made.getvalue()
        packed.write_bytes(self.damage.bytes(content) if self.rng.random() < 0.6 else content)
        return packed

    def card(self) -> Path:
        """A card's file: damaged, or signed by a thief or a dishonest owner."""
        first, charge = self.damage.runs[-1]
        changed, key = self.damage.edited(first), self.rng.choice([ledgers.KEY, THIEF])
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            lines = ledgers.lines_of([changed if isinstance(changed, dict) else first, charge], key)
            chain = read(b"".join(line + b"\n" for line in lines))
            return self.file(proofs.of_record(chain, ledgers.sealed(lines, key), 0).encode())
        return self.file(b"")

    def file(self, content: bytes) -> Path:
        path = self.place / "file"
        path.write_bytes(self.damage.bytes(content))
        return path

    def budget(self) -> Path:
        content = (self.place / "people.json").read_bytes()
        path = self.place / "damaged.json"
        changed = json.dumps(self.damage.edited(json.loads(content)), indent=2, sort_keys=True).encode() + b"\n"
        path.write_bytes(self.rng.choice([changed, self.damage.bytes(content), *[self.lying_budget(content)] * 3]))
        return path

    def lying_budget(self, content: bytes) -> bytes:
        """A budget whose author computes its hashes anew."""
        text = json.loads(content)
        part = self.rng.choice(["terms", "history"])
        changed = self.damage.edited(text[part])
        with contextlib.suppress(TypeError, ValueError, AttributeError, RecursionError):
            head = budget.digest(changed if part == "terms" else text["terms"])
            for record in changed if part == "history" else text["history"]:
                record["previous"] = head
                head = budget.digest(record)
            return budget.render(text | {part: changed, "head": head})
        return content[1:]

    def command(self) -> list[Any]:
        """The arguments of a command that reads something damaged."""
        key = ["--key", ledgers.KEY.public.text]
        shutil.rmtree(self.place / "marks", ignore_errors=True)
        run, choose = self.received(), self.rng.choice
        trust = choose([key, ["--trust-run-key"]])
        ledger = run if run.is_file() else run / LEDGER
        made: list[Callable[[], list[Any]]] = [
            *[lambda: ["verify", run, *trust, *choose([[], ["--json"]])]] * 4,
            *[lambda: ["show", run, *choose([[], ["--json"]])]] * 3,
            *[lambda: ["report", run, "-o", self.place / "report.html"]] * 2,
            lambda: ["diff", run, self.good],
            lambda: ["forget", run, *choose([[], ["--json"]])],
            lambda: ["diff", self.good, run, "--all"],
            lambda: ["export", run, "-o", self.place / "out.zip"],
            lambda: ["prove", run, *choose([["--record", 1], ["--round", 1], ["--from", self.place / "good.note"]])],
            lambda: ["prove", self.good, "--from", choose([run, self.file((self.good / CHECKPOINT).read_bytes())])],
            *[lambda: ["check-proof", self.file(choose(self.proofs)), *key, *choose([[], ["--json"]])]] * 2,
            lambda: ["check-proof", self.file(self.proofs[2]), *key, "--older", run],
            lambda: [
                *["witness", choose([run, self.file(self.proofs[2])]), *key, "--witness-key", self.place / "new.pem"],
                *["--memory", self.place / "marks", "--older", self.place / "good.note"],
            ],
            *[lambda: ["combine", run, *trust, *choose([[], ["--json"]])]] * 2,
            lambda: ["combine", run, self.good, *trust, "--same-people"],
            lambda: ["budget", "show", self.budget()],
            lambda: ["budget", "settle", self.budget(), run],
            lambda: ["keys", "show", self.file((self.place / choose(["own.pem", f"good/{PUBLIC_KEY}"])).read_bytes())],
            lambda: ["keys", "rotate", run, "--new", self.place / "new.pem", "--key", self.place / "key.pem"],
            lambda: ["verify", self.good, *key, "--older", choose([run, self.file(ledger.read_bytes())])],
            lambda: ["card", run, *choose([[], key, ["--json"]])],
            *[lambda: ["card", self.card(), *choose([[], key, ["--json"]])]] * 2,
            lambda: ["verify", self.good, *key, "--receipts", self.file(choose(self.kept))],
            lambda: ["verify", self.good, "--key", self.file((self.good / PUBLIC_KEY).read_bytes())],
        ]  # fmt: skip
        (self.place / "out.zip").unlink(missing_ok=True)
        return choose(made)()


def peak() -> int:
    """Bytes of memory that the process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def trials(count: int, seed: int, *, sampled: bool = False) -> dict[str, Any]:
    """Try `count` damaged runs: exit codes, commands, what went wrong, the slowest, and the memory that was added."""
    codes: Counter[str] = Counter()
    failures: list[str] = []
    slowest = (0.0, "")
    last_line: list[str] = []
    behind = commands.unexpected

    def reached(error: Exception) -> VerificationError:
        last_line.append(repr(error))
        return behind(error)

    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch.dict(os.environ),
        mock.patch.object(commands, "unexpected", reached),
    ):
        base = random.Random(seed)
        trial = Trial(random.Random(seed), Path(place), sampled=sampled)
        fedrec(["audit", "verify", str(trial.good), "--key", ledgers.KEY.public.text])  # imports everything
        before = peak()
        resource.setrlimit(resource.RLIMIT_AS, (_mapped() + MEMORY, resource.RLIM_INFINITY))
        for number in range(count):
            trial.rng.seed(f"{seed}-{number}-{base.random()}")
            arguments = ["audit", *map(str, trial.command())]
            told = io.StringIO()
            began = time.process_time()
            try:
                with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                    code = fedrec(arguments)
            except BaseException as error:
                failures.append(f"trial {number}: {arguments}: {error!r}")
                continue
            seconds = time.process_time() - began
            slowest = max(slowest, (seconds, f"trial {number}: {arguments}"))
            codes[f"{arguments[1]} {code}"] += 1
            acting = {c for c in told.getvalue() if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"}
            if code not in (0, 2, 3, 4) or acting or last_line:
                failures.append(f"trial {number}: {arguments}: code {code}, {last_line or acting}")
            last_line.clear()
    return {
        "codes": dict(sorted(codes.items())),
        "failures": failures,
        "slowest": slowest,
        "megabytes": (peak() - before) >> 20,
    }


def _mapped() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(trials(int(sys.argv[1]), int(sys.argv[2]), sampled="sampled" in sys.argv), indent=2) + "\n"
    )
