"""`fedrec client sync`: the newest signed release becomes the model of this device."""

from typing import Annotated

import typer

from fedrec.screen import say
from fedrec_client.edge_options import AsJson, Folder, Passphrase, opened, show

STEP = 10
"""Percent between two lines of progress."""


def sync(
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Address of the releases. [default: the last one]")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="PUB", help="The publisher's root key, for the first sync; repeat it for more."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="Demand this witness's cosignature of the ledger; repeat it."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--most", min=1, metavar="BYTES", help="Most bytes of a release. [default: 1 GiB]")
    ] = None,
    jitter: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Wait a random part of this time first, e.g. from cron.")
    ] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    state: Folder = None,
    passphrase: Passphrase = False,
    as_json: AsJson = False,
) -> None:
    """Get the newest signed release of a publisher, and make it the model of this device.

    The first sync pins the publisher's root key, which `fedrec server publish` prints; get it over another channel than
    the address. Later ones need neither. The old model stays until the new one is verified and made a list.

    - `fedrec client sync --url https://example.org/releases --key ed25519:...`

    - `fedrec client sync --jitter 3600` - e.g. once a day

    The server learns the address of this device, the time, and which release it had. No identifier is sent.

    Exit codes: 0 done, 2 not reachable or no use, 4 not signed, not proven, old or false (the old model stays).
    """
    from fedrec_client.releases.sync import MOST, SyncOptions

    progress = _Lines() if not quiet else None
    options = SyncOptions(witness or (), MOST if most is None else most, jitter, progress=progress)
    with opened(state, passphrase, create=True) as client:
        found = client.sync(url, keys=key or (), options=options)
    line = f"Release {found.sequence} of run {found.run} is in use"
    line += f": {found.downloaded:,} bytes fetched of {found.size:,}." if found.changed else " already."
    show(found, [line], as_json)


class _Lines:
    """Progress as a line on standard error for each tenth."""

    def __init__(self) -> None:
        self._next = STEP

    def __call__(self, here: int, whole: int) -> None:
        percent = 100 * here // max(whole, 1)
        if percent >= self._next:
            say(f"{here:,} of {whole:,} bytes ({percent} %)", err=True)
            self._next = percent - percent % STEP + STEP
