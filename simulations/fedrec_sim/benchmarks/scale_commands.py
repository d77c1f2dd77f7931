"""`fedrec bench scale` and `fedrec bench ranking`: how cost grows with users, and what full ranking costs."""

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fedrec.devices import check_device
from fedrec.errors import InputError
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.options import cores, read_names, read_settings, read_sizes

ALGORITHMS = ("als", "kernel-rank", "tower-sgd")
DEFAULTS: dict[str, dict[str, Any]] = {"kernel-rank": {"head_items": 2000}}
"""The head grows with the users by default, and what the server does with it would hide what users cost."""
CHUNKS = {"cpu": (16_384, 1_000_000), "cuda": (65_536, 8_000_000)}
"""Users and events of a chunk: a CPU's cache is small, and a GPU idles on little."""
MANY = 50_000
"""Above, a CPU measures one round of each kind and warms up with none."""


def scale(
    algorithm: Annotated[str, typer.Option(metavar="NAME,...", help="The algorithms to measure.")] = ",".join(
        ALGORITHMS
    ),
    users: Annotated[str, typer.Option(metavar="N,N,...", help="Generated users: a process each.")] = "10000,100000",
    interactions: Annotated[int, typer.Option(min=1, help="Events of each user.")] = 100,
    items: Annotated[int, typer.Option(min=20, help="Size of the catalogue.")] = 50_000,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="ALGORITHM.KEY=VALUE", help="Change a setting of an algorithm.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Measured rounds of each kind; the median counts.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[str, typer.Option(help="Of the users' products: float32, tf32 or bfloat16.")] = "float32",
    batch_users: Annotated[int | None, typer.Option(min=1, help="Most users of a chunk. [default: by device]")] = None,
    batch_events: Annotated[int | None, typer.Option(min=1, help="About the most events. [default: by device]")] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(min=0, help="What chunks are kept in between rounds. [default: none, on CUDA a quarter of all]"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. [default: the cores]")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Run to the end with noise, and rank a sample of the users.")
    ] = False,
    epsilon: Annotated[str, typer.Option(help="Of a whole run: a number, or none.")] = "1",
    evaluated: Annotated[int, typer.Option(min=1, help="Users whom a whole run ranks at the end.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for scale.json and scale.svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """Seconds of a round in which everybody takes part, users/s, peak memory, and the share of memory bandwidth.

    Users are generated, without privacy noise. An algorithm's rounds of different kinds (popularity, steps) are
    measured apart. On the CPU, above 50,000 users one round of each kind is measured, without one to warm up. The
    bandwidth is that of a plain copy in the same process; the share is of the bytes that the round at least needs.

    With `--whole` each algorithm runs to its end, under its default plan for that epsilon (delta: 1e-5, and at most a
    tenth of 1 / users). Every user has one event more, which training never has, and a sample ranks theirs.

    Example: `fedrec bench scale --device cuda --users 10000,100000,1000000`
    """
    from fedrec.precision import Precision
    from fedrec_sim.benchmarks import jobs
    from fedrec_sim.benchmarks.result_file import ResultFile, check_settings

    read_names(precision, get_args(Precision), "--precision")
    names, sizes = read_names(algorithm, None, "--algorithm"), read_sizes(users, "synthetic")
    settings = _by_algorithm(changes or [], names, {} if whole else DEFAULTS)
    check_device(device, "--device")
    for name in names:
        check_settings(name, settings[name])
    kind = device.partition(":")[0]
    common = {
        "dataset": "synthetic",
        "data_dir": None,
        "interactions_per_user": interactions,
        "items": items,
        "device": device,
        "precision": precision,
        "batch_users": batch_users or CHUNKS[kind][0],
        "batch_events": batch_events or CHUNKS[kind][1],
        "memory_mb": _kept_mb(device) if memory_mb is None else memory_mb,
        "threads": threads or cores(),
        "seed": seed,
    }
    results = ResultFile(
        out, "scale.json", {"command": "scale", "settings": settings, **common}, len(sizes) * len(names)
    )
    for size in sizes:
        many = kind == "cpu" and size is not None and size > MANY
        rounds = {"repeat": 1 if many else repeat, "warm_up": 0 if many else 1}
        for name in names:
            say(f"measuring {name} on {size:,} users ...", err=True)
            job: dict[str, Any] = {"what": "scale", "algorithm": name, "config": settings[name], "users": size}
            if whole:
                job |= {"what": "whole", "epsilon": _epsilon(epsilon), "evaluated": evaluated}
            results.add(jobs.run_job(common | job | rounds))
    document = results.document
    if whole:
        _show(document, as_json, _whole_rows(document), _shares(document))
        return
    if out is not None:
        from fedrec_sim.benchmarks.growth_figure import draw

        draw(document, out / "scale.svg")
    _show(document, as_json, _scale_rows(document), _phases(document))


def ranking(
    users: Annotated[int, typer.Option(min=1, help="Generated users.")] = 30_000,
    items: Annotated[int, typer.Option(min=20, help="Size of the catalogue.")] = 41_000,
    interactions: Annotated[int, typer.Option(min=1, help="Events that each device knows.")] = 50,
    held_out: Annotated[str, typer.Option(metavar="N,N,...", help="Held-out items a user: a row each.")] = "1,8",
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of the dot-product model.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for ranking.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON and nothing else.")] = False,
) -> None:
    """Full ranking beside the plain blocked product with mask and top 10: both in turns, in one process.

    The ratio is that of CPU seconds (on CUDA of seconds), which other programs on the machine disturb less.
    """
    from fedrec_sim.benchmarks import jobs
    from fedrec_sim.benchmarks.result_file import ResultFile

    check_device(device, "--device")
    common: dict[str, Any] = {"users": users, "items": items, "interactions_per_user": interactions, "dim": dim}
    common |= {"device": device, "threads": threads, "seed": seed}
    counts = read_sizes(held_out, "synthetic", "--held-out")
    results = ResultFile(out, "ranking.json", {"command": "ranking", **common}, len(counts))
    for count in counts:
        say(f"ranking {count} held-out items a user ...", err=True)
        results.add(jobs.run_job(common | {"what": "ranking", "held_out": count}))
    rows = [["held-out items a user", "CPU seconds", "plain product, top 10", "ratio", "peak memory"]]
    for result in results.document["results"]:
        seconds = [f"{result[name]:.2f}" for name in ("cpu_seconds", "plain_cpu_seconds", "ratio")]
        rows.append([str(result["held_out"]), *seconds, f"{result['peak_rss_mb']:,.0f} MB"])
    _show(results.document, as_json, rows, [])


def _epsilon(text: str) -> float | str:
    try:
        return text if text == "none" else float(text)
    except ValueError:
        raise InputError(f"--epsilon {text}: must be a number, or none") from None


def _by_algorithm(
    changes: list[str], names: list[str], defaults: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    settings = {name: dict(defaults.get(name, {})) for name in names}
    for key, value in read_settings(changes).items():
        name, dot, own = key.partition(".")
        if not dot or name not in settings:
            raise InputError(f"--set {key}: must be ALGORITHM.KEY=VALUE, e.g. {names[0]}.dim=32, of {', '.join(names)}")
        settings[name][own] = value
    return settings


def _kept_mb(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    return torch.cuda.get_device_properties(torch.device(device)).total_memory // 4 >> 20


def _scale_rows(document: dict[str, Any]) -> list[list[str]]:
    rows = [["", "users", "seconds", "CPU seconds", "users/s", "of bandwidth", "host", "device"]]
    for result in document["results"]:
        device = result["peak_device_mb"]
        for kind in result["kinds"]:
            rows.append(
                [
                    _named(result, kind),
                    f"{result['users']:,}",
                    f"{kind['seconds']:.3f}",
                    f"{kind['cpu_seconds']:.3f}",
                    f"{kind['users_per_second']:,.0f}",
                    f"{kind['bandwidth_fraction']:.1%}",
                    f"{result['peak_rss_mb']:,.0f} MB",
                    "" if device is None else f"{device:,.0f} MB",
                ]
            )
    return rows


def _whole_rows(document: dict[str, Any]) -> list[list[str]]:
    rows = [["", "users", "epsilon", "seconds", "CPU seconds", "host", "ranked", "HR@10", "NDCG@10", "popularity"]]
    for result in document["results"]:
        metrics, popular = result["metrics"], result.get("popularity")
        rows.append(
            [
                result["algorithm"],
                f"{result['users']:,}",
                "none" if result["epsilon"] is None else f"{result['epsilon']:.3f}",
                f"{result['seconds']:,.0f}",
                f"{result['cpu_seconds']:,.0f}",
                f"{result['peak_rss_mb']:,.0f} MB",
                f"{result['evaluated']:,}",
                f"{metrics['hr@10']:.4f}",
                f"{metrics['ndcg@10']:.4f}",
                "" if popular is None else f"{popular['hr@10']:.4f} / {popular['ndcg@10']:.4f}",
            ]
        )
    return rows


def _shares(document: dict[str, Any]) -> list[str]:
    """Return where the time went, a line for each kind of round."""
    lines = []
    for result in document["results"]:
        for kind in result["kinds"]:
            phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in kind["phases"].items())
            lines.append(
                f"{_named(result, kind)} x {kind['rounds']}, {result['users']:,} users: {kind['seconds']:.1f} seconds, "
                f"{kind['cpu_seconds']:.1f} CPU seconds ({phases})"
            )
    return lines


def _named(result: dict[str, Any], kind: dict[str, Any]) -> str:
    return f"{result['algorithm']}: {kind['round'].replace('+', ', ')}"


def _phases(document: dict[str, Any]) -> list[str]:
    lines = []
    for result in document["results"]:
        for kind in result["kinds"]:
            phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in kind["phases"].items())
            lines.append(f"{_named(result, kind)}, {result['users']:,} users, seconds: {phases}")
        lines.append(f"a plain copy in the same process: {result['copy_gb_per_second']:.1f} GB/s")
    return lines


def _show(document: dict[str, Any], as_json: bool, rows: list[list[str]], lines: list[str]) -> None:
    if as_json:
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    from rich.table import Table

    table = Table(*rows[0], box=None)
    for row in rows[1:]:
        table.add_row(*row)
    console = plain_console()
    console.print(table)
    for line in lines:
        console.print(line)
