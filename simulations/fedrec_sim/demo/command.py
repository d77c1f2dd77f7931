"""`fedrec demo`: a page on which a person sees what a device learns, what leaves it, and what that costs."""

import tempfile
import threading
from pathlib import Path
from typing import Annotated

import typer

from fedrec.data.folder import DataDir
from fedrec.screen import say


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page, on the loopback; 0 for any free one.")] = 0,
    data_dir: DataDir = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep all files there, a new folder; else they are removed.")
    ] = None,
    hubs: Annotated[int, typer.Option(min=2, max=8, metavar="N", help="Hubs of the other people.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the generated people and titles.")] = 1,
) -> None:
    """Show a federation on this machine as a web page: tap, see the list change, take part in a round, be forgotten.

    A server and hubs with other people run as processes of their own, over encrypted connections; everything ends with
    the command. Titles are those of ml-100k where --data-dir has it, else generated ones.
    """
    from fedrec_client.serve.device_service import FILE, device_service
    from fedrec_client.serve.routes import ROUTES

    from fedrec.http.entrance import Entrance
    from fedrec.http.listening import Server, on_loopback
    from fedrec.http.token_file import token_in
    from fedrec.transport.processes import signals_interrupt
    from fedrec_sim.demo.demo import Demo
    from fedrec_sim.demo.routes import page, routes
    from fedrec_sim.demo.world import make_world

    with tempfile.TemporaryDirectory(prefix="fedrec-demo-") as temporary, on_loopback("127.0.0.1", port) as listening:
        folder = Path(temporary) if keep is None else keep.absolute()
        at = listening.getsockname()[1]
        made = Demo(
            folder,
            make_world(folder / "world", data_dir, seed, hubs),
            lambda code: say(f"Open http://127.0.0.1:{at}/#{code} (once, within ten minutes)", err=True),
        )
        made.token = token_in(made.client.path / FILE)
        entrance = Entrance.of(at, (), made.token)
        service = device_service(made.client, entrance, (*ROUTES, *routes(made)), page())
        server = Server(service, listening, made.new_code)
        answering = threading.Thread(target=server.serve_until_stopped, name="fedrec-demo")
        try:
            with signals_interrupt():
                answering.start()
                made.work()
        except KeyboardInterrupt:
            say("The demo has ended, and so have its processes.", err=True)
        finally:
            server.should_exit = True
            answering.join()
            made.client.close()
