"""The person's device at the server of the demo: it stays for one run, by its own policy and ledger."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from fedrec_client import EdgeClient
from fedrec_client.hosting import Server
from fedrec_client.participation.stay import Ended, Plan

from fedrec.errors import InputError
from fedrec_sim.demo.federation import PERSON, Federation
from fedrec_sim.demo.world import World

LONGEST_SECONDS = 600.0


@contextlib.contextmanager
def taking_part(client: EdgeClient, running: Federation, world: World) -> Iterator[Callable[[], None]]:
    """Let the device take part until the block ends.

    Yields: a check that raises where the device left before that.
    Raises: InputError where the policy keeps the device away; other errors of `EdgeClient.participate`.
    """
    stop = threading.Event()
    key = running.keyring.nodes[PERSON][0]
    assert key is not None, "a key that was made here"
    server = Server(running.address, running.keyring.ca_certificate, key)
    with ThreadPoolExecutor(1, "fedrec-demo-device") as pool:
        stay = pool.submit(client.participate, server, world.run_items, Plan(seconds=LONGEST_SECONDS, stop=stop))

        def check() -> None:
            if stay.done():
                found = stay.result()
                if found.ended is Ended.NOT_ELIGIBLE:
                    raise InputError(f"the policy keeps this device away: {', '.join(found.obstacles)}")
                raise InputError(f"the device left the server: {found.ended.value}")

        try:
            yield check
        finally:
            stop.set()
    stay.result()
