"""`fedrec client serve`: the methods of EdgeClient for programs in other languages and for web pages."""

from pathlib import Path
from typing import Annotated

import typer

from fedrec.screen import say
from fedrec_client.edge_options import Folder, Passphrase, folder_of, opened

PORT = 8642


def serve(
    host: Annotated[str, typer.Option(help="Where to listen: 127.0.0.1, ::1 or localhost.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = PORT,
    unix: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Listen on a Unix socket, mode 0600, in place of a port.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option("--allow-origin", metavar="ORIGIN", help="A web page's origin that may ask; repeat it."),
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Make a new token; programs with the old one are refused.")
    ] = False,
    state: Folder = None,
    passphrase: Passphrase = False,
) -> None:
    """Answer programs on this machine over HTTP until Ctrl-C or SIGTERM: `POST /v1/record`, `/v1/recommend` and others.

    Each request needs the token, which is in the file http-token of the device's folder, mode 0600. The API is
    described by /openapi.json, and /fedrec.mjs is a client for browsers and Node.
    """
    from fedrec.http.entrance import Entrance
    from fedrec.http.listening import Server, on_loopback, on_unix
    from fedrec.http.token_file import token_in
    from fedrec_client.serve.device_service import FILE, device_service

    with (
        opened(state, passphrase, create=True) as client,
        on_loopback(host, port) if unix is None else on_unix(unix) as listening,
    ):
        found = None if unix is not None else listening.getsockname()[1]
        entrance = Entrance.of(found, tuple(allow_origin or ()), token_in(client.path / FILE, new=new_token))
        where = f"the Unix socket {unix}" if unix else f"http://{'[::1]' if host == '::1' else '127.0.0.1'}:{found}"
        service = device_service(client, entrance)
        token = client.path / FILE
        Server(
            service,
            listening,
            lambda: say(f"Serving on {where}. The token is in {folder_of(state) / token.name}.", err=True),
        ).serve_until_stopped()
