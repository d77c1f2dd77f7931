"""`fedrec bench cold`: the command's options, its tables and its picture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedrec.data.folder import DataDir
from fedrec.errors import InputError
from fedrec.screen import plain_console, say, write
from fedrec_sim.benchmarks.cold_means import means
from fedrec_sim.benchmarks.options import read_names, read_numbers

if TYPE_CHECKING:
    from rich.table import Table


def cold(
    data: Annotated[str, typer.Option(help="A dataset whose items have public features.")] = "paraphrases",
    data_dir: DataDir = None,
    what: Annotated[Literal["items", "users"], typer.Option(help="New items, or new users.")] = "items",
    encoders: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="Of the items' text: none, words, or encoders (`fedrec data encode`)."),
    ] = "none,words,minilm",
    algorithms: Annotated[
        str, typer.Option(metavar="NAME,...", help="content, kernel-rank, als, 'tower hybrid', ...")
    ] = "popularity,content,kernel-rank,als,spectral,tower content,tower mlp,tower hybrid",
    epsilon: Annotated[str, typer.Option(metavar="N,...", help="Privacy levels; none for none.")] = "none",
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Runs of each row.")] = "0,1,2",
    users: Annotated[int | None, typer.Option(min=20, help="Generated data: number of users.")] = None,
    share: Annotated[float, typer.Option(min=0.01, max=0.49, help="Part of the items, or users, that is cold.")] = 0.2,
    on: Annotated[Literal["test", "validation"], typer.Option(help="The held-out part.")] = "test",
    vectors: Annotated[Path | None, typer.Option(help="Folder that keeps vectors between calls.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for cold.json and cold.svg.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Rank new items by their public features, or for new users by a few events or answers.

    A new item is in no event and in no catalogue of training. HR@10 and NDCG@10 of one held-out item a user, as means
    over the seeds.

    Examples:

    - `fedrec bench cold` - generated items whose words differ: what the meaning of a text is worth

    - `fedrec bench cold --data ml-100k --data-dir DATA --epsilon none,8 --encoders none,words,minilm,e5`

    - `fedrec bench cold --data ml-100k --data-dir DATA --what users --encoders words` - events against answers
    """
    from fedrec.encoders.base import encoder
    from fedrec_sim.benchmarks import cold as measured
    from fedrec_sim.benchmarks.result_file import ResultFile

    chosen = read_names(algorithms, tuple(measured.ALGORITHMS), "--algorithms")
    named = read_names(encoders, None, "--encoders")
    for name in named:
        if name not in (measured.NONE, measured.WORDS):
            lacking = encoder(name).lacking()
            if lacking:
                raise InputError(f"--encoders {name}: {lacking}")
    bench = measured.Bench(
        data={"name": data} | ({} if users is None else {"users": users}),
        data_dir=data_dir,
        encoders=named,
        algorithms=chosen,
        epsilons=_epsilons(epsilon),
        seeds=read_numbers(seeds, "--seeds"),
        share=share,
        on=on,
        work=vectors,
    )
    planned = len(named) * len(chosen) * len(bench.epsilons) * len(bench.seeds)
    about = {"command": "cold", "data": data, "what": what, "users": users, "share": share, "on": on}
    results = ResultFile(out, "cold.json", about, planned)
    measure = measured.cold_items if what == "items" else measured.cold_users
    for result in measure(bench, lambda line: say(line, err=True)):
        results.add(result)
    document = results.document
    if out is not None:
        from fedrec_sim.benchmarks.cold_figure import draw

        draw(document, out / "cold.svg")
    if as_json:
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    plain_console().print(table(document))


def _epsilons(text: str) -> list[float | str]:
    try:
        return [part if part == "none" else float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--epsilon {text}: must be numbers or none, e.g. none,8,1") from None


def table(document: dict[str, Any]) -> "Table":
    """Return the table of a finished benchmark."""
    from rich.table import Table

    items = document["what"] == "items"
    keys = ("epsilon", "encoder", "algorithm") if items else ("epsilon", "encoder", "algorithm", "known")
    heads = ["HR@10 of new", "NDCG@10 of new"] if items else []
    shown = Table("epsilon", "text", "algorithm", *([] if items else ["known"]), *heads, "HR@10 full", "NDCG@10 full")
    for place, row in means(document["results"], keys).items():
        figures = [f"{protocol} {metric}" for protocol in ("new", "full") for metric in ("hr@10", "ndcg@10")]
        cells = ["no answer" if row[name] is None else f"{row[name]:.3f}" for name in figures]
        shown.add_row(*map(str, place), *(cells if items else cells[2:]))
    return shown
