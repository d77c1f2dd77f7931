"""`fedrec audit prove`, `check-proof` and `witness`: proofs that need no ledger, and signatures of witnesses."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.audit.cli.verify import RunArgument
from fedrec.errors import InputError, VerificationError
from fedrec.received_files import replace_named, write_below
from fedrec.screen import say, write

OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="FILE", help="The file to write. [default: standard output]")
]


def prove(
    run: RunArgument,
    round_index: Annotated[int | None, typer.Option("--round", min=0, help="The round whose charge is proven.")] = None,
    record: Annotated[int | None, typer.Option(min=0, help="Any record, by its number from 0.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="OLD", help="An older checkpoint or ledger: proves that this one extends it."),
    ] = None,
    out: OutOption = None,
) -> None:
    """Make a small proof of one record, or of growth since an older state. Checking it needs no ledger.

    Examples:

    - `fedrec audit prove runs/mine --round 7 -o round-7.proof` - what was charged for round 7

    - `fedrec audit prove runs/mine --from last-month.note -o growth.proof` - nothing before it was rewritten
    """
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import proofs

    if sum(given is not None for given in (round_index, record, from_)) != 1:
        raise InputError("prove: say what: --round N, --record N, or --from OLD")
    chain, sealed = _sealed(run)
    if from_ is not None:
        text = proofs.of_growth(chain, sealed, received_run.older(from_))
    else:
        place = _charge_of(chain, round_index) if round_index is not None else record or 0
        text = proofs.of_record(chain, sealed, place)
    _write(text, out)


def check_proof(
    file: Annotated[Path, typer.Argument(metavar="PROOF", help="A file of `fedrec audit prove`.")],
    key: Annotated[str, typer.Option(metavar="PUB", help="The ledger's public key: a PEM file, or ed25519:BASE64.")],
    older: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The state that you kept: the proof must extend it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is proven as JSON.")] = False,
) -> None:
    """Check a proof with a public key alone, and print its content.

    Example: `fedrec audit check-proof round-7.proof --key operator.pub`

    Exit codes: 0 proven, 2 it cannot be read, 4 it proves nothing.
    """
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import keys, proofs

    try:
        text = received_run.named(file, proofs.LARGEST).decode()
    except UnicodeDecodeError:
        raise InputError(f"{file}: is no text") from None
    proven = proofs.check(text, keys.public_key(key))
    if older is not None:
        kept = received_run.older(older)
        if proven.before != (kept.size, kept.root):
            raise VerificationError(f"{file}: is no proof of growth from {older} ({kept.size} records)")
    if as_json:
        write(json.dumps(proven.facts, indent=2) + "\n")
        return
    sealed = proven.checkpoint
    if proven.record is not None:
        say(f"Proven: record {proven.record.index} of the {sealed.size:,} of run {sealed.run} is")
        write(json.dumps(proven.record.payload, indent=2) + "\n")
    elif proven.before is not None:
        say(f"Proven: the {sealed.size:,} records of run {sealed.run} begin with those {proven.before[0]:,}")
    for name in sealed.witnesses:
        say(f"note: carries a cosignature of {name}, unchecked")


def witness(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's folder, an export, or a proof of growth (`prove --from`).")
    ],
    key: Annotated[str, typer.Option(metavar="PUB", help="The ledger's public key.")],
    witness_key: Annotated[Path, typer.Option(metavar="FILE", help="The witness's own private key (`keys new FILE`).")],
    name: Annotated[str | None, typer.Option(help="The witness's name. [default: witness/ and its key's id]")] = None,
    memory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What was cosigned. [default: ~/.local/state/fedrec/witness]")
    ] = None,
    older: Annotated[Path | None, typer.Option(metavar="FILE", help="Also demand that it extends this.")] = None,
    out: OutOption = None,
) -> None:
    """Cosign a ledger's checkpoint, unless it contradicts an earlier cosigned one (a rolled-back or rewritten past).

    The cosigned checkpoint is written to the run's folder (release/privacy/witness-*.note), or to --out. Keep a copy:
    with it `verify --older` shows whether the ledger was rewritten since.

    Example: `fedrec audit witness runs/mine --key operator.pub --witness-key my-key.pem`
    """
    from fedrec.audit.evidence import archive, received_run
    from fedrec.audit.evidence.layout import Layout
    from fedrec.audit.log import keys, proofs
    from fedrec.audit.log.witness import Witness, default_memory

    own, public = keys.load_key(witness_key), keys.public_key(key)
    seer = Witness(own, name or f"witness/{own.public.id}", memory or default_memory())
    content = b"" if run.is_dir() else received_run.named(run, archive.MOST_PACKED)
    if content.startswith(proofs.GROWTH.encode()):
        if older is not None:
            raise InputError("--older: a proof names what it extends; leave this out")
        proven = proofs.check(content.decode(errors="replace"), public)
        if proven.before is None:
            raise InputError(f"{run}: not a proof of growth")
        sealed, before = proven.checkpoint, proven.before
    else:
        sealed, before = _seen_whole(run, public, seer, None if older is None else received_run.older(older))
    note = seer.cosign(sealed, before, int(time.time())).note
    if out is None and run.is_dir():
        where, name = Layout.of(run), f"privacy/witness-{own.public.id}.note"
        write_below(where.root, name if where.flat else f"{where.release.name}/{name}", note.encode())
        out = where.release / name
    elif out is not None:
        replace_named(out, note.encode())
    else:
        write(note)
        return
    say(f"Cosigned {sealed.size:,} records of run {sealed.run}: {out}")


def _seen_whole(run: Path, public: Any, seer: Any, older: Any) -> tuple[Any, tuple[int, bytes]]:
    """Return the checkpoint, and the earlier state that it extends, from a whole ledger."""
    from fedrec.audit.evidence import received_run
    from fedrec.audit.verify.verification import integrity

    found = received_run.received(run)
    chain, sealed, faults = integrity(found, public, [older] if older else [])
    if faults or sealed is None:
        raise VerificationError(f"{run}: not cosigned: {'; '.join(faults)}")
    size, root = seer.seen(sealed.run)
    same = size <= sealed.size and chain.roots[size] == root
    return sealed, (size, root) if same else (sealed.size, sealed.root)


def _sealed(run: Path) -> tuple[Any, Any]:
    """Return the chain and its checkpoint, which must belong together."""
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import chain as chains
    from fedrec.audit.log import checkpoint

    found = received_run.received(run)
    chain = chains.read(found.ledger)
    try:
        sealed = checkpoint.parsed(found.files[received_run.CHECKPOINT].decode())
    except (KeyError, ValueError):
        raise VerificationError(f"{run}: has no checkpoint to prove anything under") from None
    if sealed.size >= len(chain.roots) or chain.roots[sealed.size] != sealed.root:
        raise VerificationError(f"{run}: ledger and checkpoint do not belong together")
    return chain, sealed


def _charge_of(chain: Any, number: int) -> int:
    """Return the record of a round's last charge."""
    places = [
        record.index
        for record in chain.records
        if record.payload.get("type") == "charge" and record.payload.get("round") == number
    ]
    if not places:
        raise InputError(f"--round {number}: the ledger has no charge of that round")
    index: int = places[-1]
    return index


def _write(text: str, out: Path | None) -> None:
    if out is None:
        write(text)
        return
    replace_named(out, text.encode())
    say(f"Written to {out}, {len(text.encode()):,} bytes")
