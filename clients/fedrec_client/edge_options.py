"""Options that the commands of a device share, and how they print."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrec.screen import say, write

if TYPE_CHECKING:
    from fedrec_client.edge.client import EdgeClient
    from fedrec_client.store import KeySource

DEVICE = "Recommendations on a device"
"""Panel of these commands in the help."""

Folder = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="The device's own folder. [default: ~/.fedrec/client]")
]
Passphrase = Annotated[
    bool,
    typer.Option("--passphrase", help="Ask for the passphrase; without, the key file or keyring opens it."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--language-model",
        metavar="PLACE",
        help="On this device: http://127.0.0.1:PORT of a llama.cpp server, a folder with model.onnx and "
        "tokenizer.json, or stand-in (rules, no model).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def folder_of(state: Path | None) -> Path:
    """Return the device's folder."""
    from fedrec_client.consent.files import default_folder

    return default_folder() if state is None else state


def key_of(passphrase: bool, prompt: str = "Passphrase") -> "KeySource | None":
    """Return the source of the store's key, by a question on the terminal where a passphrase opens it."""
    from fedrec_client.store import key_sources

    return key_sources.Passphrase(typer.prompt(prompt, hide_input=True, err=True)) if passphrase else None


def opened(state: Path | None, passphrase: bool, *, create: bool = False) -> "EdgeClient":
    """Open the device's folder, or with `create` make it."""
    from fedrec_client.edge.client import EdgeClient

    return EdgeClient.open(folder_of(state), key_of(passphrase), create=create)


def show(found: Any, lines: Sequence[str], as_json: bool) -> None:
    """Print an answer: `found`, a dataclass or a list of them, as JSON; else the lines."""
    if not as_json:
        for line in lines:
            say(line)
        return
    value = [asdict(each) for each in found] if isinstance(found, list) else found
    value = value if isinstance(value, list | dict) else asdict(value)
    write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
