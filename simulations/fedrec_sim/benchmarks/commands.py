"""`fedrec bench`: the commands' options, and their output at the end."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.data.folder import DataDir
from fedrec.devices import check_device
from fedrec.errors import InputError, nearest
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.asked_command import device_round
from fedrec_sim.benchmarks.cold_command import cold
from fedrec_sim.benchmarks.compress_command import compress
from fedrec_sim.benchmarks.deploy_command import deploy, dropping
from fedrec_sim.benchmarks.edge_command import edge
from fedrec_sim.benchmarks.options import (
    cores,
    machine,
    read_names,
    read_numbers,
    read_settings,
    read_sizes,
)
from fedrec_sim.benchmarks.scale_commands import ranking, scale
from fedrec_sim.benchmarks.secagg_command import secagg
from fedrec_sim.benchmarks.serve_command import serve
from fedrec_sim.benchmarks.social_command import social

bench = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="markdown")


@bench.callback()
def _bench() -> None:
    """Measure what federated computation costs, beside other programs that do the same work."""


@bench.command("round")
def round_(
    dataset: Annotated[str, typer.Option(help="A dataset (`fedrec data list`), or synthetic.")] = "synthetic",
    data_dir: DataDir = None,
    algorithm: Annotated[str, typer.Option(help="The algorithm whose round is measured.")] = "als",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the algorithm, e.g. dim=32."),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Generated users: one measurement a size. [default: 10000]"),
    ] = None,
    items: Annotated[int, typer.Option(min=20, help="Generated users: size of the catalogue.")] = 50_000,
    interactions: Annotated[int, typer.Option(min=1, help="Generated users: events each.")] = 50,
    compare: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Also measure implicit, flower on the same users.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, help="Clients a round of Flower's engine.")] = 1000,
    repeat: Annotated[int, typer.Option(min=1, help="Measured rounds; the median counts.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. [default: the cores that may be used]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N (for our own round).")] = "cpu",
    batch_users: Annotated[int, typer.Option(min=1, help="Most users of one of our chunks.")] = 16_384,
    batch_events: Annotated[int, typer.Option(min=1, help="About the most events of one of our chunks.")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json and bench.svg.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Seconds of one round in which every user takes part, phase by phase, and peak memory.

    Each measurement runs in a process of its own, one after the other. One round warms up and does not count, except
    above 200,000 users, where a single round is measured.

    Examples:

    - `fedrec bench round --dataset ml-1m --data-dir DATA --compare implicit,flower`

    - `fedrec bench round --users 10000,100000,1000000 --out bench` - how time and memory grow
    """
    from fedrec_sim.benchmarks import jobs
    from fedrec_sim.benchmarks.result_file import ResultFile, check_settings

    others = read_names(compare, jobs.COMPARISONS, "--compare")
    sizes = read_sizes(users, dataset)
    settings = read_settings(changes or [])
    check_device(device, "--device")
    check_settings(algorithm, settings)
    for other in others:
        jobs.require(other)
    common = {
        "dataset": dataset,
        "data_dir": str(data_dir) if data_dir else None,
        "items": items,
        "interactions_per_user": interactions,
        "threads": threads or cores(),
        "seed": seed,
        "clients": clients,
        "batch_users": batch_users,
        "batch_events": batch_events,
        "dim": settings.get("dim", 64),
    }
    about = {"command": "round", "algorithm": algorithm, **common}
    results = ResultFile(out, "bench.json", about, len(sizes) * (1 + len(others)))
    for size in sizes:
        many = size is not None and size > 200_000
        rounds = {"repeat": 1 if many else repeat, "warm_up": 0 if many else 1}
        own: jobs.Job = {"what": "fedrec", "algorithm": algorithm, "config": settings, "device": device}
        for job in [own, *({"what": other} for other in others)]:
            if job["what"] == "flower":
                rounds = {"repeat": min(rounds["repeat"], 2), "warm_up": 1}
            say(f"measuring {job['what']} on {size or dataset} ...", err=True)
            results.add(jobs.run_job(common | {"users": size} | job | rounds))
    document = results.document
    if out is not None:
        from fedrec_sim.benchmarks.figure import draw

        draw(document, out / "bench.svg")
    if as_json:
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        _show(document, out)


@bench.command("results")
def results_(
    data_dir: DataDir = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Run these tables alone, e.g. ml-100k,gowalla.")
    ] = None,
    algorithms: Annotated[str | None, typer.Option(metavar="NAME,...", help="Run these algorithms alone.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=0, help="At most so many seeds a row; 0 only writes the page. [default: 3 or 5]")
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Run the central peers EASE, iALS and item-kNN on the same splits, instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The page to write; results.json and pictures go beside it.")] = Path(
        "docs/results.md"
    ),
) -> None:
    """Run every algorithm on every dataset at every privacy level, and write the tables; a second call continues.

    The file results.json, next to the page, keeps finished runs. They run again only when their settings change. All
    runs take many hours on two cores. The page leaves out missing runs. Where central peers were run,
    privacy-cost.md shows what each epsilon costs beside the best of them.

    Example: `fedrec bench results --peers --only citeulike,beauty`
    """
    from fedrec_sim.benchmarks import grid, jobs, peer_runs, privacy_cost, results
    from fedrec_sim.report import plots

    known = {section.name: section for section in grid.SECTIONS}
    chosen = [known[name] for name in read_names(only, tuple(known), "--only")] or list(grid.SECTIONS)
    wanted = read_names(
        algorithms, tuple({row.algorithm["name"] for one in chosen for row in one.rows}), "--algorithms"
    )
    store = results.Results(out.with_name("results.json"))

    def progress(line: str) -> None:
        say(line, err=True)

    if peers:
        jobs.require("implicit")
    try:
        if peers:
            failures = peer_runs.fill(store, chosen, seeds, data_dir, progress)
        else:
            failures = results.fill(store, chosen, seeds, data_dir, progress, wanted)
    finally:
        out.parent.mkdir(parents=True, exist_ok=True)
        tables = []
        for section in grid.SECTIONS:
            central = [(peer.name, runs) for peer, runs in peer_runs.of(section, store)]
            tables.append(results.table(section, store, central))
            points = results.series(section, store)
            if any(epsilon is not None for line in points.values() for epsilon, _, _ in line):
                picture = out.parent / "images" / f"results-{section.name}.svg"
                picture.parent.mkdir(exist_ok=True)
                plots.quality_against_epsilon(points, section.columns[0][0], picture)
                tables.append(f"![{section.title}: quality against epsilon](images/{picture.name})")
        out.write_text(results.document(tables, store), encoding="utf-8")
        if panels := privacy_cost.panels(grid.SECTIONS, store):
            picture = out.parent / "images" / "privacy-cost.svg"
            picture.parent.mkdir(exist_ok=True)
            privacy_cost.draw(panels, picture)
            cost = privacy_cost.page(panels, f"images/{picture.name}")
            out.with_name("privacy-cost.md").write_text(cost, encoding="utf-8")
    if failures:
        raise InputError(f"{len(failures)} runs failed, the others are kept; the first: {failures[0]}")


@bench.command("leak")
def leak_(
    data_dir: DataDir = None,
    dataset: Annotated[list[str] | None, typer.Option(help="ml-100k or ml-1m. [default: both]")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Seeds of every row. [default: 0,1,2 on ml-100k, 0 on ml-1m]")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for the runs; finished ones are not run again.")] = Path(
        "runs/leak"
    ),
    out: Annotated[Path, typer.Option(help="The page whose table is written.")] = Path("docs/leak.md"),
) -> None:
    """Compare published, leaky and clean figures of federated recommenders; a second call continues."""
    from fedrec_sim.benchmarks import leak

    given = read_numbers(seeds, "--seeds") if seeds else None
    sections = []
    for name in dataset or list(leak.SECTIONS):
        if name not in leak.SECTIONS:
            raise InputError(f"--dataset {name}: unknown.{nearest(name, leak.SECTIONS)}")
        numbers = given or ([0, 1, 2] if name == "ml-100k" else [0])
        sections.append(
            leak.section(
                name,
                numbers,
                lambda row, seed, leaky: row.run(seed, leaky, work, data_dir),
                lambda text: say(text, err=True),
            )
        )
    leak.write(out, sections)


@bench.command("ledger")
def ledger_(
    rounds: Annotated[int, typer.Option(min=1, help="Charges to write.")] = 10_000,
    sampling: Annotated[float, typer.Option(min=1e-4, max=1, help="Below 1, epsilon has no closed form.")] = 1.0,
    work: Annotated[
        Path | None, typer.Option(help="An empty folder on the disk to measure. [default: a temporary one]")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Milliseconds of an append with its sync, seconds to verify the whole, and bytes of one round's proof.

    Example: `fedrec bench ledger --rounds 10000 --sampling 0.05`
    """
    import tempfile

    from fedrec_sim.benchmarks.ledger import measure

    if work is not None and work.exists() and any(work.iterdir()):
        raise InputError(f"--work {work}: is not empty; give a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        say(f"writing {rounds:,} charges, each synced ...", err=True)
        found = measure(work or Path(temporary), rounds, sampling)
    if as_json:
        write(json.dumps({"command": "ledger", **found, **machine()}, indent=2, allow_nan=False) + "\n")
        return
    append = found["append_ms"]
    say(f"{rounds:,} charges, {found['ledger_bytes'] / 1e6:.1f} MB")
    say(f"append and sync: median {append['median']:.2f} ms, mean {append['mean']:.2f}, 99 % {append['99 %']:.2f}")
    say(f"  of which the disk's sync of a kilobyte: {found['sync_ms']:.2f} ms")
    say(f"verify all: {found['verify_seconds']:.2f} s (epsilon: {found['method']})")
    say(f"proof of one round: {found['proof_bytes']:,} bytes, made in {found['prove_ms']:.1f} ms")


@bench.command("charges")
def charges(
    rounds: Annotated[int, typer.Option(min=1, help="Steps of the run, one charge each.")] = 300,
    sampling: Annotated[float, typer.Option(min=1e-4, max=1, help="Below 1, epsilon has no closed form.")] = 0.1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Charges a second: what it costs to price each round of a run before it may release anything.

    Example: `fedrec bench charges --rounds 300 --sampling 0.01`
    """
    from fedrec_sim.benchmarks.charges import measure

    found = measure(rounds, sampling)
    if as_json:
        write(json.dumps({"command": "charges", **found, **machine()}, indent=2, allow_nan=False) + "\n")
        return
    say(f"{found['rounds']:,} charges at sampling {sampling:g}, in CPU seconds of this process:")
    say(f"planning {found['planning_cpu_seconds']:.2f} s, all charges {found['charges_cpu_seconds']:.2f} s")
    say(f"{found['charges_per_cpu_second']:.1f} charges a second; median {found['charge_ms']['median']:.1f} ms")


bench.command("cold")(cold)
bench.command("scale")(scale)
bench.command("ranking")(ranking)
bench.command("deploy")(deploy)
bench.command("dropping")(dropping)
bench.command("secagg")(secagg)
bench.command("edge")(edge)
bench.command("compress")(compress)
bench.command("serve")(serve)
bench.command("device-round")(device_round)
bench.command("social")(social)


def _show(document: dict[str, Any], out: Path | None) -> None:
    from rich.table import Table

    console = plain_console()
    table = Table(
        "", "users", "seconds a round", "CPU seconds", "users/s", "fedrec is faster by", "peak memory", box=None
    )
    own: dict[str, Any] = {}
    for result in document["results"]:
        own = result if result["what"] == "fedrec" else own
        factor = own["users_per_second"] / result["users_per_second"]
        memory = result["peak_rss_mb"]
        table.add_row(
            {"fedrec": f"fedrec {document['algorithm']}", "implicit": "implicit, exact ALS", "flower": "Flower, Ray"}[
                result["what"]
            ],
            f"{result['users']:,}",
            f"{result['seconds']:.3f}",
            f"{result['cpu_seconds']:.3f}" if "cpu_seconds" in result else "",
            f"{result['users_per_second']:,.0f}",
            "" if result is own else f"{factor:,.2f} x",
            f"{memory:,.0f} MB" if memory is not None else "unknown",
        )
    console.print(table)
    for result in document["results"]:
        if result["what"] == "fedrec":
            phases = ", ".join(f"{name} {seconds:.3f}" for name, seconds in result["phases"].items())
            console.print(f"{result['users']:,} users, seconds: {phases}")
    if out is not None:
        console.print(f"Written to {out}: bench.json, bench.svg")
