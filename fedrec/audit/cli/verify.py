"""`fedrec audit verify` and `fedrec audit export`."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fedrec.errors import InputError, VerificationError
from fedrec.screen import say, write

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a file of `fedrec audit export`.")]


def verify(
    run: RunArgument,
    key: Annotated[
        str | None,
        typer.Option(metavar="PUB", help="The public key that began the ledger: a PEM file, or ed25519:BASE64."),
    ] = None,
    trust_run_key: Annotated[
        bool,
        typer.Option("--trust-run-key", help="Take the key next to the ledger: shows damage, not who wrote it."),
    ] = False,
    older: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An earlier copy: checkpoint, ledger, folder or export. Repeatable."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="Demand a cosignature by this witness's public key. Repeatable."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model, where it was handed over apart from an export.")
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What a node kept: ID.receipts or ID.forks. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON and nothing else.")] = False,
) -> None:
    """Check a run's record without trusting its operator.

    It checks signatures, chain, tree and checkpoint; that an older copy is a beginning of this one; that model,
    scenario and statement are those of the ledger; and that every charge is on the promised terms. It recomputes
    epsilon from the events with code that training does not use. It cannot show that the record describes what really
    happened.

    Get the public key from its owner over another channel than the run: a key found next to a ledger proves nothing.

    Examples:

    - `fedrec audit verify runs/mine --key ed25519:...`

    - `fedrec audit verify received.zip --key operator.pub --older last-month.note --model model.safetensors`

    - `fedrec audit verify runs/mine --key ed25519:... --receipts ~/.fedrec/client/runs/ID.receipts`

    - `fedrec audit verify runs/mine --trust-run-key` - checks your own files for damage

    Exit codes: 0 all holds, 2 it cannot be read, 4 something does not hold (a line for each fault).
    """
    from fedrec.audit.evidence import received_run
    from fedrec.audit.log import keys
    from fedrec.audit.verify import derived as derivations
    from fedrec.audit.verify.receipts import device_record
    from fedrec.audit.verify.verification import verify as verified

    derived = derivations.derived_release(run)
    found = received_run.received(run if derived is None else derivations.source_of(derived))
    if (key is None) == (not trust_run_key):
        raise InputError(
            "verify: needs a key; give --key PUB (from its owner, not from the run), or --trust-run-key for your own"
        )
    public = keys.public_key(key) if key else found.own_key("--trust-run-key", "--key PUB")
    verdict = verified(
        found,
        public,
        copies=[received_run.older(path) for path in older or []],
        witnesses=[keys.public_key(each) for each in witness or []],
        model=_digest(model) if model else None,
        devices=[device_record(path) for path in receipts or []],
    )
    if derived is not None:
        verdict.faults += derivations.faults(derived, found)
        verdict.notes.append(derivations.note(derived))
    if trust_run_key:
        verdict.notes.insert(0, "the key came with the ledger: this shows that nothing is damaged, not who wrote it")
    if as_json:
        document = {"holds": verdict.holds, "faults": verdict.faults, "notes": verdict.notes, **verdict.facts}
        write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        _show(verdict.facts, verdict.notes, verdict.faults)
    if not verdict.holds:
        count = len(verdict.faults)
        raise VerificationError(f"{run}: does NOT verify, {count} fault{'s' if count > 1 else ''}")
    if not as_json:
        say(f"{run}: verified, everything that was checked holds")


def export(
    run: RunArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The file to write, e.g. run.zip.")],
) -> None:
    """Pack one file for an auditor: ledger, checkpoint, cosignatures, statement, scenario, manifest, key.

    The file contains the SHA-256 of the model, but not the model. It contains nothing outside the guarantee (true
    metrics, counts, times, results of attacks); the ledger fixes these by salted digests. The same run gives the same
    bytes.

    Example: `fedrec audit export runs/mine -o mine.zip`, then `fedrec audit verify mine.zip --key ...`
    """
    from fedrec.audit.evidence import received_run

    content = received_run.export(run)
    try:
        with out.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise InputError(f"--out {out}: exists already; choose another file") from None
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    say(f"Written to {out}, {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


def _digest(model: Path) -> str:
    try:
        with model.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"--model {model}: cannot be read ({error.strerror})") from None


def _show(facts: dict[str, Any], notes: list[str], faults: list[str]) -> None:
    say(f"run {facts.get('run', 'unknown')}: {facts['records']:,} records, {facts.get('rounds_charged', 0):,} charges")
    say(f"head {facts['head']}")
    if "epsilon" in facts:
        told, again = facts["epsilon"]["recorded"], facts["epsilon"]["recomputed"]
        say(
            f"epsilon {told['pld'] or told['rdp']} of at most {facts['target_epsilon']} at delta {facts['delta']}; "
            f"recomputed {again['tight']} ({facts['epsilon']['method']}); by Renyi DP {told['rdp']}, recomputed "
            f"{again['renyi']}"
        )
    for note in notes:
        say(f"note: {note}")
    for fault in faults:
        say(f"FAULT: {fault}")
