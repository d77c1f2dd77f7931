"""`fedrec serve`: the command."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedrec import private_files
from fedrec.errors import InputError
from fedrec.screen import say

if TYPE_CHECKING:
    from fedrec.http.entrance import Entrance

PORT = 8643
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CONNECTIONS = 1024


def serve(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run, its release/, or the model's own folder; a link may change its target."
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Where to listen; another address than the loopback is warned of.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = PORT,
    unix: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Listen on a Unix socket, mode 0600, e.g. for a proxy.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A name that requests may be sent to, with its port where one is; repeat it."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="ORIGIN", help="A web page's origin that may ask; repeat it."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Demand the token of this file, mode 0600; it is made where it is missing."),
    ] = None,
    certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate and chain, for TLS.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="PEM", help="Private key of the certificate.")] = None,
    watch: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.05, help="Look for another release at RUN; else SIGHUP loads it."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Most people of one batch.")] = 32,
    state_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Key of state tokens, mode 0600, for several servers; else one for each start."
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Print route, status and milliseconds of each request.")
    ] = False,
) -> None:
    """Answer requests for lists over HTTP until Ctrl-C or SIGTERM: `POST /v1/recommend` with a history.

    The server SEES the history in each request while it answers, and keeps nothing: no file, no log, no metric holds
    any of it. It is for operators whose users accept that, or for one's own machine. On a person's own device,
    `fedrec client` makes the same lists, and no server sees the history.

    It needs numpy alone: the model is read in its form for devices. /openapi.json describes the API, /metrics is for
    Prometheus. SIGHUP loads the release at RUN again.

    Examples:

    - `fedrec serve runs/mine`

    - `fedrec serve current --watch 10 --unix /run/fedrec.sock --name recommend.example.org`

    Exit codes: 0 stopped, 2 input that cannot be used.
    """
    from fedrec.http.listening import Server, on_address, on_loopback, on_unix
    from fedrec.http.service import Limits, Service
    from fedrec.serving.batching import Batches
    from fedrec.serving.loaded import Loaded
    from fedrec.serving.metrics import Metrics
    from fedrec.serving.reloading import Reloading
    from fedrec.serving.routes import ABOUT, ROUTES, Serving

    if (certificate is None) != (key is None):
        raise InputError("TLS needs both --certificate and --key")
    for file in (certificate, key):
        if file is not None and not file.is_file():
            raise InputError(f"{file}: no such file; name a PEM file")
    sealing = None if state_key is None else _key(state_key)
    metrics = Metrics()
    own = unix is not None or host in LOOPBACK
    listen = on_unix(unix) if unix is not None else (on_loopback if own else on_address)(host, port)
    model = Loaded.of(run, sealing)
    metrics.model(model.about)
    serving = Serving(model, Batches(batch, metrics.batch), metrics)

    def observe(route: str, status: int, seconds: float) -> None:
        metrics.answered(route, status, seconds)
        if access_log:
            say(f"{route} {status} {1000 * seconds:.1f} ms", err=True)

    with listen as socket, Reloading(serving, lambda path: Loaded.of(path, sealing), run, watch) as reloading:
        at = None if unix is not None else socket.getsockname()[1]
        entrance = _entrance(own, at, tuple(name or ()), tuple(allow_origin or ()), token_file)
        limits = Limits(running=4 * _CONNECTIONS)
        service = Service(serving, entrance, ROUTES, ABOUT, limits=limits, observe=observe)
        shown = f"[{host}]" if ":" in host else host
        where = f"the Unix socket {unix}" if unix else f"{'https' if certificate else 'http'}://{shown}:{at}"
        if not own:
            _warn(host, bool(certificate), token_file is not None)

        def ready() -> None:
            about = model.about
            say(
                f"Serving {about.algorithm}, {about.items:,} items, on {where}. It sees the histories it is sent.",
                err=True,
            )

        with _on_hangup(reloading.ask):
            Server(
                service, socket, ready, connections=_CONNECTIONS, certificate=certificate, key=key
            ).serve_until_stopped()


def _entrance(
    own: bool, port: int | None, names: tuple[str, ...], origins: tuple[str, ...], token: Path | None
) -> "Entrance":
    from fedrec.http.entrance import Entrance
    from fedrec.http.token_file import token_in

    secret = None if token is None else token_in(token)
    local = Entrance.of(port, origins, secret)
    if names or own:
        assert local.hosts is not None
        return Entrance.named(local.hosts | {each.lower() for each in names}, origins, secret)
    return Entrance.named(None, origins, secret)


def _warn(host: str, tls: bool, token: bool) -> None:
    say(
        f"warning: --host {host}: machines that reach this address may ask, and this server sees their histories",
        err=True,
    )
    if not tls:
        say(
            "warning: plain HTTP: the network sees the histories; give --certificate and --key, or use a proxy",
            err=True,
        )
    if not token:
        say("warning: nobody needs a token; give --token-file to choose who may ask", err=True)


def _key(file: Path) -> bytes:
    import secrets

    from fedrec.serving.tokens import KEY_BYTES

    if not file.exists():
        private_files.create(file, secrets.token_bytes(KEY_BYTES))
    content = private_files.read(file, follow=False)
    if len(content) != KEY_BYTES:
        raise InputError(f"{file}: holds no key of {KEY_BYTES} bytes; name a file that does not exist yet")
    return content


@contextmanager
def _on_hangup(call: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, lambda *_: call())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
