"""Every command of README and docs: the real parser takes it, its settings exist, and the quick ones run."""

import re
import shlex
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import click
import pytest
import typer

from fedrec.cli import app, run
from fedrec.run.scenario import built_in, code_in, load_scenario, setting_names
from tests.docs.fences import ROOT, commands, pages

COMMANDS = [(page, line) for page in pages() for line in commands(page.read_text(encoding="utf-8"))]
NOT_RUN = {
    "starts servers, or needs their keys: run by tests/server/test_deploy_guide.py and test_keyring.py": (
        r"deploy\.md: fedrec |fedrec server local",
        32,
    ),
    "needs a server, and what a node keeps: tests/client/consent/test_commands.py": (
        r"device-ledger\.md: fedrec client (start|budget|ledger)",
        3,
    ),
    "needs a server and devices with events: run by tests/server/test_edge_guide.py": (
        r"edge\.md: fedrec (keys|server|client (items|import phone|policy|key|hub|participate|budget))",
        13,
    ),
    "needs a device with events: tests/client/edge/test_in_words.py": (r"(generate|explain)\.md: fedrec client", 2),
    "needs the addresses of two devices: tests/client/edge/test_friends.py": (r"friends\.md: fedrec client", 6),
    "answers until it is stopped: tests/client/serve/test_command.py": ("fedrec client serve", 1),
    "answers until it is stopped: tests/core/serving/test_command.py": (r"serve\.md: fedrec serve", 1),
    "needs a run over nodes: tests/server/test_run_card.py has one": (r"run-card\.md: fedrec", 1),
    "needs a web server: tests/server/releases/test_publish.py": (r"releases\.md: fedrec", 4),
    "installs packages": (r"pip install", 4),
    "the whole quickstart or demo, or a whole check; .ci/run runs most of these targets": (r": make ", 7),
    "needs data of a publisher, or asks one": (r"ml-1m|ml-100k|data get", 51),
    "measures for minutes to hours": (r"fedrec bench|faults(\.py|_distributed|_mid_round)|planted-order", 22),
    "attacks for minutes; tests/simulation/attacks/test_attacks.py runs smaller ones": (r"audit attack", 8),
    "runs code of one's own: tests/simulation/test_foreign_algorithms.py": (r"extending\.md: fedrec .*\.py:", 2),
    "starts a server and a node: tests/server/test_allowed_plugins.py, test_plugins_on_a_node.py": (
        r"extending\.md: fedrec (client|server)",
        2,
    ),
    "needs a run that was interrupted; tests/simulation/test_resume.py has one": (r"--resume --out runs/FOLDER", 1),
    "needs the runs of a sweep; tests/simulation/experiment/test_sweep.py makes them": (r"fedrec compare runs/grid", 1),
}
"""The reason why commands are only parsed -> the pattern of these (page: command) and their number. All others run."""


def reason(page: Path, line: str) -> str | None:
    """Return why a command is parsed only; None for one that runs."""
    place = f"{page.relative_to(ROOT)}: {line}"
    return next((why for why, (pattern, _) in NOT_RUN.items() if re.search(pattern, place)), None)


def parse(line: str) -> dict[str, object]:
    """Return the parameters that the command line parser finds in `fedrec ...`."""
    words = shlex.split(line)[1:]
    command = typer.main.get_command(app)
    context = click.Context(command, info_name="fedrec")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        assert command is not None, line
        context = click.Context(command, info_name=name, parent=context)
    return command.make_context(context.info_name, words, parent=context.parent).params


def check_settings(parameters: dict[str, object]) -> None:
    """Refuse a scenario, a setting or a value that does not exist."""
    name = str(parameters.get("scenario") or "quickstart")
    changes = [str(change) for change in parameters.get("set_") or parameters.get("changes") or ()]
    changes = [change for change in changes if not code_in([change])]  # the page's reader has that file
    load_scenario(name if name in built_in() else "quickstart", changes)
    swept = [str(text).partition("=")[0] for text in parameters.get("sweep") or ()]
    assert set(swept) <= set(setting_names())


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page.stem}: {line}" for page, line in COMMANDS])
def test_the_parser_takes_every_command(page: Path, line: str) -> None:
    words = shlex.split(line)
    if words[0] in ("fedrec", ".venv/bin/fedrec"):
        parameters = parse(line)
        if {"sweep", "nodes"} & set(parameters) or words[1:3] == ["server", "run"]:
            check_settings(parameters)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        named = [word for word in words[1:] if "=" not in word]
        assert set(named) <= set(targets)
        given = [word.partition("=")[2] for word in words if word.startswith("ARGS=")]
        if given and named == ["simulate"]:
            check_settings(parse(f"fedrec simulate {given[0]}"))
    elif line.startswith(("pip install", ".venv/bin/pip install")):
        extras = re.findall(r"\[([a-z,]+)\]", line)
        known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert {extra for group in extras for extra in group.split(",")} <= set(known["optional-dependencies"])
    else:
        assert words[0] in ("python", ".ci/run"), "a command that this test does not know"
        named = words[-1 if words[0] == ".ci/run" else 1]
        assert (ROOT / (f"{words[2].replace('.', '/')}.py" if named == "-m" else named)).is_file()


@pytest.mark.parametrize(
    "line",
    [
        "fedrec simulate --sed 1",
        "fedrec audit prove",
        "fedrec audit verfy runs/x",
        "fedrec bench round --user 3",
    ],
)
def test_the_check_notices_a_wrong_command(line: str) -> None:
    with pytest.raises(click.ClickException):
        parse(line)


def test_what_does_not_run_is_listed_and_counted() -> None:
    found = Counter(why for page, line in COMMANDS if (why := reason(page, line)))
    assert found == {why: count for why, (_, count) in NOT_RUN.items()}


SMALL = "--set evaluation.every=0 --set evaluation.order_free=false --set algorithm.rounds=8"
"""Added to every simulation below."""
GENERATED = " --set data.users=150 --set data.items=60"


def prepare(folder: Path) -> None:
    """Write the files that the pages speak of: a log, a catalogue, a log without header, a scenario."""
    events = [(user, (user * 7 + step * step) % 40, step) for user in range(120) for step in range(8)]
    log = ["user_id,item_id,timestamp", *(f"{user},{item},{step}" for user, item, step in events)]
    (folder / "log.csv").write_text("\n".join(log) + "\n")
    people = ["user_id,gender", *(f"{user},{'FM'[user % 2]}" for user in range(120))]
    (folder / "people.csv").write_text("\n".join(people) + "\n")
    (folder / "plays.txt").write_text("".join(f"{user}\t{item}\t5\t{step}\n" for user, item, step in events))
    genres = ("Drama|War", "Comedy", "Drama|Comedy", "Crime")
    items = ["item_id,title,year,genres", *(f"{n},Film {n},{1990 + n % 9},{genres[n % 4]}" for n in range(40))]
    (folder / "items.csv").write_text("\n".join(items) + "\n")
    facts = [f"{n}\tby\tmaker/{n % 9}" for n in range(40)] + [f"maker/{n}\tof\tschool/{n % 3}" for n in range(9)]
    (folder / "facts.tsv").write_text("\n".join(["head\trelation\ttail", *facts]) + "\n")
    (folder / "my.toml").write_text(
        '[data]\nname = "quickstart"\nusers = 150\nitems = 60\n[algorithm]\nname = "kernel-rank"\n'
        "[privacy]\nepsilon = 1.0\ndelta = 1e-6\n"
    )


def runnable(line: str, folder: Path) -> str:
    """Return the command with what a reader fills in, made small and without a browser."""
    key = folder / "runs" / "first" / "release" / "privacy" / "ledger.pub"
    line = line.replace(".venv/bin/fedrec", "fedrec").replace("[", "").replace("]", "").removesuffix(" --open")
    line = line.replace("2027-12-31", "2999-12-31").replace("ed25519:...", str(key))
    if line.startswith("fedrec simulate"):
        line += f" {SMALL}" + ("" if "data.path" in line or "my.toml" in line else GENERATED)
    return line


@pytest.mark.slow
def test_the_quick_commands_run_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDREC_DATA", raising=False)
    prepare(tmp_path)
    assert run(shlex.split(runnable("fedrec simulate --seed 1 --out runs/first", tmp_path))[1:]) == 0
    for copy in ("mine", "approved", "new", "NAME"):
        shutil.copytree(tmp_path / "runs" / "first", tmp_path / "runs" / copy)
    done: set[str] = {"fedrec simulate --seed 1 --out runs/first"}
    for page, line in COMMANDS:
        if reason(page, line) or line in done:
            continue
        done.add(line)
        if "--out runs/" in line:  # pages make the same folder again
            shutil.rmtree(tmp_path / line.split("--out ")[1].split()[0], ignore_errors=True)
        if "--from last-month.note" in line:
            shutil.copy(tmp_path / "runs" / "mine" / "release" / "privacy" / "checkpoint", tmp_path / "last-month.note")
        code = run(shlex.split(runnable(line, tmp_path))[1:])
        assert code == 0, f"{page.name}: {line}: exit code {code}"
    assert len(done) >= 15
