"""`fedrec audit card`: the run card of a run, as a device checks it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.errors import InputError
from fedrec.screen import say, write


def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder or export, or a card's file (-o).")],
    key: Annotated[
        str | None,
        typer.Option(metavar="PUB", help="The ledger's public key, from its owner: a PEM file, or ed25519:BASE64."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="Demand a cosignature by one of these witnesses. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the card with its proof to a file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON and nothing else.")] = False,
) -> None:
    """Show the run card: what the run asks of devices, on which terms, and until when.

    The card is record 0 of the ledger with a proof. It is checked as a device does: signatures, proof, types and
    bounds of all fields. Without --key, the key that the card names is taken, which does not show who wrote it.

    Examples:

    - `fedrec audit card runs/mine --key ed25519:...`

    - `fedrec audit card runs/mine -o mine.card`, then on another machine `fedrec audit card mine.card --key ...`

    Exit codes: 0 it holds, 2 it cannot be read, 4 it does not hold.
    """
    import json

    from fedrec.audit.card import checks
    from fedrec.audit.log import keys
    from fedrec.received_files import replace_named

    text = _text(run)
    pinned = [keys.public_key(key)] if key else checks.read_signer(text)
    found = checks.open_card(text, pinned, [keys.public_key(each) for each in witness or ()])
    if out is not None:
        replace_named(out, text.encode())
    if as_json:
        write(json.dumps(_facts(found), indent=2, allow_nan=False) + "\n")
        return
    for name, value in _facts(found).items():
        if name != "plan":
            say(f"{name.replace('_', ' ')}: {value}")
    for group in _facts(found)["plan"]:
        first, last = group["rounds"]
        say(f"round {first}:" if first == last else f"rounds {first} to {last}:")
        for query in group["queries"]:
            clip = "no clip" if query["clip_norm"] is None else f"clip {query['clip_norm']:g}"
            if query["factors"] is not None:
                clip += " x {:g} to {:g} (adaptive)".format(*query["factors"])
            shape = " x ".join(map(str, query["shape"]))
            say(f"  {query['name']} ({shape}): {clip}, noise {query['noise_std']:g}")
    if found.expires <= datetime.now(UTC):
        say("note: the card has expired: no device answers this run any more")
    if key is None:
        say("note: the key is the one that the card names: this does not show who wrote it")


def _text(run: Path) -> str:
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import chain as chains
    from fedrec.audit.log import checkpoint, proofs

    if run.is_file():
        content = received_run.named(run)
        if content.startswith(proofs.RECORD.encode()):
            return content.decode("utf-8", "replace")
    found = received_run.received(run)
    chain = chains.read(found.ledger)
    if not chain.records or "card" not in chain.records[0].payload:
        raise InputError(f"{run}: its ledger has no run card; deployments have one, simulations and older runs do not")
    try:
        sealed = checkpoint.parsed(found.files[received_run.CHECKPOINT].decode())
    except (KeyError, ValueError):
        raise InputError(f"{run}: has no checkpoint to prove a run card under") from None
    notes = [content for name, content in found.files.items() if name.startswith("privacy/witness-")]
    for content in notes:  # one that a witness cosigned shows more
        try:
            note = checkpoint.parsed(content.decode())
        except ValueError:
            continue
        if 1 <= note.size < len(chain.roots) and note.root == chain.roots[note.size] and note.run == sealed.run:
            sealed = note
    if sealed.size >= len(chain.roots):
        raise InputError(f"{run}: ledger and checkpoint do not belong together")
    return proofs.of_record(chain, sealed, 0)


def _facts(card: Any) -> dict[str, Any]:
    from fedrec.audit.card.card import TIME

    ends = (*card.starts[1:], card.rounds)
    plan = [
        {
            "rounds": [start, end - 1],
            "queries": [
                {
                    "name": query.name,
                    "shape": list(query.shape),
                    "clip_norm": query.clip_norm,
                    "noise_multiplier": query.noise_multiplier,
                    "noise_std": query.noise_std,
                    "factors": query.factors,
                }
                for query in row
            ],
        }
        for start, end, row in zip(card.starts, ends, card.groups, strict=True)
    ]
    return {
        "run": card.run,
        "card": card.digest,
        "ledger_key": card.key.text,
        "records": card.checkpoint.size,
        "head": card.checkpoint.root.hex(),
        "witnesses": sorted(card.checkpoint.witnesses),
        "serial": card.serial,
        "expires": card.expires.strftime(TIME),
        "algorithm": card.algorithm,
        "fingerprint": card.fingerprint,
        "dataset": card.dataset,
        "trust": card.trust,
        "epsilon": card.epsilon,
        "delta": card.delta,
        "users": card.users,
        "sampling": card.sampling,
        "participation": "hidden" if card.hidden else "known",
        "separation": card.separation,
        "minimum_cohort": card.minimum_cohort,
        "nodes": card.nodes,
        "receipts": card.receipts,
        **({} if card.helper is None else {"helper": f"{card.helper.key.text} at {card.helper.address}"}),
        "seeded": card.seeded,
        "mechanism": card.mechanism,
        "rounds": card.rounds,
        "plan": plan,
    }
