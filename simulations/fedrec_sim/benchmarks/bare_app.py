"""A Flower app that only exchanges arrays: the peer of a deployed round (`fedrec bench deploy`).

The server sends each node arrays of the shapes in `down`, and receives arrays of the shapes in `up`.
"""

import json
import time
from pathlib import Path

import numpy as np
from fedrec_server.flower.messenger import POLL_SECONDS
from fedrec_server.process.run_events import RunEvents
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

server_app = ServerApp()
client_app = ClientApp()


@client_app.train()
def answer(message: Message, context: Context) -> Message:
    """Return arrays of the shapes in the run's configuration."""
    return Message(RecordDict({"arrays": ArrayRecord(_arrays(context.run_config["up"]))}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Wait for the nodes, run the rounds, and report them as events (`fedrec_server.process.run_events`)."""
    config = context.run_config
    events, rounds = RunEvents(Path(str(config["told"]))), int(config["rounds"])
    while len(nodes := list(grid.get_node_ids())) < int(config["nodes"]):
        time.sleep(POLL_SECONDS)
    for round_index in range(rounds):
        began = time.perf_counter()
        record = RecordDict({"arrays": ArrayRecord(_arrays(config["down"]))})
        waiting = set()
        for node in nodes:
            waiting |= set(grid.push_messages([Message(record, dst_node_id=node, message_type="train")]))
        while waiting:
            for reply in grid.pull_messages(list(waiting)):
                if reply.has_error():
                    raise RuntimeError(f"a node failed: {reply.error.code}")
                waiting.discard(reply.metadata.reply_to_message_id)
                reply.content["arrays"].to_numpy_ndarrays()
            time.sleep(POLL_SECONDS)
        events.round(round_index, rounds, time.perf_counter() - began)
    events.end(0, "done")


def _arrays(shapes: object) -> list[np.ndarray]:
    return [np.zeros(shape, np.float32) for shape in json.loads(str(shapes))]
