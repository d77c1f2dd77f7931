"""`fedrec server publish`, `renew` and `rotate`: a folder of signed releases that any static web server can serve."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec.errors import InputError
from fedrec.screen import say

if TYPE_CHECKING:
    from fedrec.audit.log.keys import SigningKey
    from fedrec_server.releases.folder import ReleaseFolder

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder that a web server serves.")]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The release key. [default: this user's ledger key]")
]
RootKeys = Annotated[
    list[Path] | None,
    typer.Option("--root-key", metavar="FILE", help="A private key of the root, which devices pin; repeat it."),
]
Valid = Annotated[
    float, typer.Option("--valid-days", min=0.01, help="Days until devices refuse the folder unless it is renewed.")
]


def publish(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, or its release/.")],
    folder: Folder,
    key: Key = None,
    root_key: RootKeys = None,
    threshold: Annotated[
        int, typer.Option(min=1, help="With the first release: root keys that must sign a change of keys.")
    ] = 1,
    public: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public features of the items, for filters on devices.")
    ] = None,
    ledger_key: Annotated[
        str | None,
        typer.Option(metavar="PUB", help="The public key that began the run's ledger. [default: the release key's]"),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="Demand a cosignature of the ledger's head by this witness; repeat it."),
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="Newest releases that stay in the folder.")] = 3,
    valid_days: Valid = 7.0,
) -> None:
    """Sign the model of a run as the newest release in a folder that any static web server can serve.

    The run must verify, as `fedrec audit verify` checks it. Devices get the model with `fedrec client sync`. They check
    who signed it, that it is the newest, and that the run's ledger fixes it.

    - `fedrec server publish runs/first releases` - the first one makes the folder; it prints the key for devices

    - `fedrec server publish runs/second releases` - devices fetch only the parts that changed

    - `fedrec server renew releases` - at least once a week, e.g. from cron: an old statement ends by itself

    - `python -m http.server -d releases 8000 --bind 127.0.0.1` - serve it, to try; use HTTPS for devices elsewhere

    Keep the root key away from the machine that publishes: `--root-key` is needed for the first release, and then by
    `fedrec server rotate` alone. By default one key is both.

    Exit codes: 0 published, 2 input that cannot be used, 4 the run does not verify (nothing is published).
    """
    from fedrec.audit.log import keys
    from fedrec_server.releases import publish as publishing
    from fedrec_server.releases.roles import RoleKeys

    online, place = _key(key), _folder(folder, valid_days)
    roots = [keys.load_key(file) for file in root_key or []] or [online]
    began = keys.public_key(ledger_key) if ledger_key else online.public
    with place.alone():
        first = not place.begun
        if first:
            found = publishing.verified(run, began)  # no folder with a root and without a release
            place.begin(roots, RoleKeys(tuple(key.public for key in roots), threshold, online.public, (found.key,)))
        elif root_key or threshold != 1:
            raise InputError(f"{folder}: has its root keys already; change them with `fedrec server rotate {folder}`")
        made = publishing.publish(
            run,
            place,
            online,
            began,
            public=public,
            witnesses=[keys.public_key(each) for each in witness or []],
            keep=keep,
        )
    release = made.release
    say(
        f"Published release {release.sequence} of run {release.run} to {folder}: {release.size:,} bytes, "
        f"{made.new_bytes:,} of them new"
    )
    if first:
        pins = " ".join(f"--key {one.public.text}" for one in roots)
        say(f"Devices pin the root: fedrec client sync --url URL {pins}")


def renew(folder: Folder, key: Key = None, valid_days: Valid = 7.0) -> None:
    """Sign again that the newest release is the newest. Without it devices refuse the folder after `--valid-days`.

    Example, a line of a crontab: `0 4 * * * fedrec server renew /srv/releases`
    """
    place, online = _folder(folder, valid_days), _key(key)
    _demand(place)
    with place.alone():
        place.check_keys(online.public)
        until, root = place.renew(online), place.root_until
    say(f"{folder}: valid until {until:%Y-%m-%d %H:%M} UTC; its root until {root:%Y-%m-%d}, see `fedrec server rotate`")


def rotate(
    folder: Folder,
    root_key: RootKeys = None,
    new_root_key: Annotated[
        list[Path] | None,
        typer.Option("--new-root-key", metavar="FILE", help="A root key from now on; repeat it. [default: as before]"),
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="Root keys that must sign the next change of keys. [default: as before]")
    ] = None,
    ledger_key: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB", help="A key of ledgers from now on; repeat it. [default: as before]"),
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="FILE", help="The release key from now on.")
    ] = None,
    valid_days: Valid = 7.0,
) -> None:
    """Replace the keys of a folder: after a key was stolen, or as a habit. Old and new root keys sign.

    Devices follow by themselves: they trust a new root that enough keys of the one before signed. What a stolen release
    key signed is void from then on, also a version number that it drove up.

    The same keys again extend the root's time. The root also names the keys of ledgers, so that a thief of the release
    key cannot publish a model of another ledger.

    Example: `fedrec server rotate releases --root-key root.pem --new-key release-2.pem`
    """
    from fedrec.audit.log import keys

    place = _folder(folder, valid_days)
    if new_key is None:
        raise InputError("rotate: name the release key from now on with --new-key FILE (fedrec audit keys new FILE)")
    _demand(place)
    old = [keys.load_key(file) for file in root_key or []] or [_key(None)]
    roots = [keys.load_key(file) for file in new_root_key or []]
    ledgers = [keys.public_key(text) for text in ledger_key or []]
    with place.alone():
        version = place.rotate(old, _key(new_key), roots=roots, threshold=threshold, ledgers=ledgers)
    pins = f"; new devices pin {' '.join(key.public.text for key in roots)}" if roots else ""
    say(f"{folder}: root {version} is in force{pins}")


def add_to(server: typer.Typer) -> None:
    """Add the commands of releases to `fedrec server`."""
    for command in (publish, renew, rotate):
        server.command(rich_help_panel="Releases for devices")(command)


def _key(file: Path | None) -> "SigningKey":
    from fedrec.audit.log import keys

    return keys.default_key() if file is None else keys.load_key(file)


def _folder(folder: Path, days: float) -> "ReleaseFolder":
    from fedrec_server.releases.folder import Lifetimes, ReleaseFolder

    return ReleaseFolder(folder, lifetimes=Lifetimes(timestamp=timedelta(days=days)))


def _demand(folder: "ReleaseFolder") -> None:
    if not folder.begun:
        raise InputError(f"{folder.path}: holds no releases; make it with `fedrec server publish RUN {folder.path}`")
