"""`fedrec bench deploy`: what a round costs over real processes."""

import json
from typing import Annotated, Any

import typer

from fedrec.errors import InputError
from fedrec.screen import say, write
from fedrec_sim.benchmarks.options import machine, read_numbers


def deploy(
    nodes: Annotated[str, typer.Option(metavar="N,N,...", help="Nodes, one measurement a number.")] = "4",
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of a run; the first warms up and does not count.")] = 6,
    stock: Annotated[bool, typer.Option("--stock", help="Run tasks as Flower does, a new process for each.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Seconds of a round over nodes that are processes of their own, encrypted and authenticated as in a deployment.

    Beside it a bare Flower app, started the same way, that sends arrays of the same shapes and computes nothing, and
    the same app with one number each way: an empty round.

    Example: `fedrec bench deploy --nodes 4,16`
    """
    from fedrec_sim.benchmarks.deployed_round import measure

    numbers = read_numbers(nodes, "--nodes")
    if min(numbers) < 1:
        raise InputError(f"--nodes {nodes}: at least 1 node")
    results = []
    for number in numbers:
        found = measure(number, rounds, stock=stock, say=lambda line: say(line, err=True))
        results.append(found)
        if not as_json:
            _show(found)
    if as_json:
        write(json.dumps({"command": "deploy", "results": results, **machine()}, indent=2, allow_nan=False) + "\n")


def _show(result: dict[str, Any]) -> None:
    say(f"{result['nodes']} nodes, {result['users']} users, {result['rounds']} rounds")
    for name, label in (("fedrec", "fedrec, als"), ("bare", "bare app, the same arrays"), ("empty", "empty round")):
        one = result[name]
        spread = f"({one['least']:.2f} to {one['most']:.2f})"
        say(f"  {label:26} {one['median']:.2f} s a round {spread}, the first {one['first']:.1f} s")
    say(f"  fedrec / bare app          {result['ratio']:.2f}")
    say(f"  until all nodes are online {result['seconds_until_nodes_are_online']:.0f} s")
    down, up = result["bytes_down_a_node_a_round"], result["bytes_up_a_node_a_round"]
    say(
        f"  bytes a node a round       {down:,.0f} down, {up:,.0f} up ({result['bytes_up_a_user_a_round']:,.0f} a user)"
    )
    for role, memory in result["fedrec"]["memory_mb"].items():
        say(f"  {role:26} {memory['processes']} processes, {memory['sum']:.0f} MB")


def dropping(
    nodes: Annotated[int, typer.Option(min=3, help="Nodes, each with processes of its own.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Charges; void rounds use some of them.")] = 20,
    share: Annotated[float, typer.Option(min=0, max=1, help="Probability that a node drops in a round.")] = 0.3,
    aggregator: Annotated[str, typer.Option(help="Who keeps the masks of the secure sum: peers or helper.")] = "peers",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON and nothing else on standard output.")
    ] = False,
) -> None:
    """Rounds of trust model `distributed` over nodes that drop at random stages: right, wrong or void.

    Encrypted and authenticated as in a deployment. A total is right where it equals the plain sum of the vectors that
    the nodes masked, bit for bit. Exits with 1 for a wrong total, or a ledger that does not verify.

    Example: `fedrec bench dropping --nodes 16 --rounds 20 --share 0.3`
    """
    from fedrec_sim.benchmarks.dropping import measure, text

    found = measure(nodes, rounds, share, aggregator, 5 * nodes, lambda line: say(line, err=True))
    if as_json:
        write(text(found) + "\n")
    else:
        say(f"{nodes} nodes, {found.charges} rounds: {found.right} right, {found.wrong} wrong, {found.void} void")
        say(f"  began with keys made ahead {found.ahead}; nodes missing in totals {found.dropped}")
        say(f"  the ledger verifies        {'yes' if found.verified else 'no'}; {found.seconds:.0f} s")
        for role, memory in found.memory_mb.items():
            say(f"  {role:26} {memory:.0f} MB, {found.cpu_seconds[role]:.0f} s of CPU")
    if found.wrong or not found.verified:
        raise typer.Exit(1)
