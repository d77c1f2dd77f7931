"""Paths through the house: the files between a command and an algorithm, and those where noise is added."""

import inspect
import sys
from pathlib import Path
from types import FrameType

import pytest

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.cli import run
from fedrec.privacy.noise import NoiseSource
from fedrec.privacy.plan import PrivacyPlan
from fedrec.privacy.queries import SumQuery
from tests import syntax
from tests.test_architecture import PACKAGED, ROOT, name_of, text_of

RUN = ["simulate", "quickstart", "--quiet", "--seed", "3"]
SMALL = ["data.users=60", "data.items=40", "algorithm.name=als", "algorithm.dim=4", "algorithm.rounds=1"]


def frames_from(frame: FrameType | None) -> list[str]:
    """The project's file of each frame between this one and the command line, innermost first."""
    found: list[str] = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / ".venv") and "tests" not in file.parts:
            found.append(str(file.relative_to(ROOT)))
        frame = frame.f_back
    return found


def on_the_stack(frame: FrameType | None) -> list[str]:
    """The project's files between the command line and this frame, outermost first, each once."""
    return list(dict.fromkeys(reversed(frames_from(frame))))


def stacks_of_a_run(folder: Path) -> dict[str, list[str]]:
    """The files on the stack at the first `contribute` and at the first noise of a run from the command line."""
    seen: dict[str, list[str]] = {}
    contribute, blocks = ALS.contribute, NoiseSource.normal_blocks
    with pytest.MonkeyPatch.context() as patch:

        def contributing(*arguments, **options):
            seen.setdefault("contribute", [*on_the_stack(sys._getframe(1)), name_of_file(ALS)])
            return contribute(*arguments, **options)

        def noisy(*arguments, **options):
            files = [*on_the_stack(sys._getframe(1)), name_of_file(NoiseSource)]
            seen.setdefault("noise", list(dict.fromkeys(files)))
            return blocks(*arguments, **options)

        patch.setattr(ALS, "contribute", contributing)
        patch.setattr(NoiseSource, "normal_blocks", noisy)
        changes = [part for change in SMALL for part in ("--set", change)]
        assert run([*RUN, *changes, "--out", str(folder / "run")]) == 0
    return seen


def name_of_file(kind: type) -> str:
    return str(Path(inspect.getfile(kind)).relative_to(ROOT))


def test_few_files_lie_between_a_command_and_an_algorithm(tmp_path: Path) -> None:
    seen = stacks_of_a_run(tmp_path)
    assert len(seen["contribute"]) <= 8, seen["contribute"]
    assert seen["contribute"][0] == "fedrec/cli.py"
    noise = seen["noise"][seen["noise"].index("fedrec/run/coordinator.py") :]
    assert noise == ["fedrec/run/coordinator.py", "fedrec/privacy/plan.py", "fedrec/privacy/noise.py"]


def readers_of_a_clip(folder: Path, clip: float) -> tuple[dict[str, set[str]], float]:
    """Return the files that read the clip norm of the query "gram" in a run, and the noise of that query.

    Returns: files by what they read, "setting" for the scenario's value, "query" for what has it on the way to the
    noise (pricing, `noise_std` and `privatise`); and the noise's standard deviation.
    """
    files: dict[str, set[str]] = {"setting": set(), "query": set()}
    noise: list[float] = []
    to_noise = {PrivacyPlan.build.__code__, PrivacyPlan.noise_std.__code__, PrivacyPlan.privatise.__code__}
    noise_std, made = PrivacyPlan.noise_std, SumQuery.__post_init__.__code__

    def watched(kind: type, name: str, what: str):
        def reading(self, wanted):
            if wanted == name:
                frame: FrameType | None = sys._getframe(1)
                assert frame is not None
                place, codes = frames_from(frame)[:1], set()
                while frame is not None:
                    codes.add(frame.f_code)
                    frame = frame.f_back
                if what == "setting" or codes & (to_noise | {made}):
                    files[what].update(place)
            return object.__getattribute__(self, wanted)

        return reading

    def measured(plan, round_index, query_name):
        found = noise_std(plan, round_index, query_name)
        if query_name == "gram":
            noise.append(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ALSConfig, "__getattribute__", watched(ALSConfig, "gram_clip_norm", "setting"))
        patch.setattr(SumQuery, "__getattribute__", watched(SumQuery, "clip_norm", "query"))
        patch.setattr(PrivacyPlan, "noise_std", measured)
        changes = [part for change in (*SMALL, f"algorithm.gram_clip_norm={clip}") for part in ("--set", change)]
        assert run([*RUN, *changes, "--out", str(folder)]) == 0
    assert len(set(noise)) == 1
    return files, noise[0]


def test_few_files_lie_between_a_clip_norm_and_the_noise(tmp_path: Path) -> None:
    """A scenario's clip: the algorithm puts it into a query, the plan makes it the scale of the noise.

    Set-up and run description carry the settings as a whole, for nodes too; neither reads a clip, so neither can change
    it. With the scenario itself they are five files.
    """
    files, noise = readers_of_a_clip(tmp_path / "one", 0.75)
    assert files["setting"] == {"fedrec/algorithms/als.py"}
    assert files["query"] == {"fedrec/privacy/queries.py", "fedrec/privacy/plan.py"}
    way = {"the scenario", *files["setting"], *files["query"], name_of_file(NoiseSource)}
    assert len(way) <= 5, way
    _, doubled = readers_of_a_clip(tmp_path / "two", 1.5)
    assert doubled == 2 * noise > 0


def calls(name: str) -> list[str]:
    """Modules of the packages that call a function or method `name`, once for each call."""
    return [
        name_of(file)
        for file in PACKAGED
        for called, _ in syntax.calls(text_of(file))
        if called.rpartition(".")[2] == name
    ]


def test_the_coordinator_alone_samples_and_adds_noise_each_at_one_line() -> None:
    assert calls("privatise") == ["fedrec.run.coordinator", "fedrec_sim.attacks.message"]  # an attack on one message
    assert set(calls("normal_blocks")) == {"fedrec.privacy.noise", "fedrec.privacy.banded.streams"}
    assert calls("normals_of") == ["fedrec.social.shares"]  # a device adds noise to a share that it paid for
    assert calls("normals_on") == ["fedrec.privacy.plan"]
    assert calls("_drawn_on") == ["fedrec.privacy.noise"]
    assert [module for module in calls("noisy") if not module.startswith("fedrec_sim.attacks")] == [
        "fedrec.privacy.plan",
        "fedrec.privacy.skellam_noise",
    ]
    assert [module for module in calls("sample") if module.startswith(("fedrec.run", "fedrec_server"))] == [
        "fedrec.run.coordinator"
    ]


def test_what_an_algorithm_knows_of_a_run_is_built_in_one_place() -> None:
    """Server, simulation, benchmark and node take it from one description, so none can leave out mu or a seed."""
    assert calls("PublicFacts") == ["fedrec.federation.spec", "fedrec.testing.steps"]
    assert calls("RunSpec") == ["fedrec.run.setup"]
