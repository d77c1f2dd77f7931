"""A Grid without processes: every message goes through Flower's own serialisation to a real node and back.

All messages of the nodes are recorded byte for byte. Tests can make nodes misbehave, leave, or return.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping

from fedrec_client.hosted_data import Hosted
from fedrec_client.node import UserNode
from flwr.app import Error, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity

from fedrec import wire
from fedrec.federation import exchange
from fedrec.wire import Packet, WireError

Twist = Callable[[Message, RecordDict], "RecordDict | Error | None"]
"""Returns the message that a bad node sends in place of its reply; None for no message."""


def through_flower(record: RecordDict) -> tuple[RecordDict, bytes]:
    """The record as it arrives, and the bytes that travelled."""
    message = recorddict_to_proto(record)
    data = message.SerializeToString()
    return recorddict_from_proto(type(message).FromString(data)), data


class MemoryGrid:
    """nodes: by Flower's id. away: ids that are not online. lost: how many next replies of a node get lost."""

    def __init__(self, nodes: Mapping[int, UserNode]) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.nodes = dict(nodes)
        self.away: set[int] = set()
        self.twists: dict[int, Twist] = {}
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.asked: list[tuple[int, str]] = []
        self.extra: list[Message] = []
        self.arrays: dict[int, wire.Arrays] = {}
        self._replies: dict[str, Message] = {}

    @classmethod
    def of(cls, hosted: Iterable[Hosted], **bounds: object) -> "MemoryGrid":
        return cls({1000 + 7 * n: UserNode(lambda _, one=one: one, **bounds) for n, one in enumerate(hosted)})

    def get_node_ids(self) -> list[int]:
        return [node for node in self.nodes if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = []
        for message in messages:
            identity = str(uuid.uuid4())
            message.metadata.__dict__["_message_id"] = identity
            sent.append(identity)
            node = message.metadata.dst_node_id
            self.asked.append((node, message.metadata.message_type))
            if node not in self.away:
                self._answer(identity, node, message)
        return sent

    def _answer(self, identity: str, node: int, message: Message) -> None:
        record, down = through_flower(message.content)
        self.down.append(down)
        try:
            answer = self.nodes[node].answer(wire.from_record(record, self.arrays.get(node, "torch")))
        except WireError as error:
            answer = exchange.refusal(error.code)
        reply = wire.to_record(answer)
        if node in self.twists:
            reply = self.twists[node](message, reply)
        if isinstance(reply, Error):
            self._replies[identity] = Message(reply, reply_to=message)
        elif reply is not None:
            reply, up = through_flower(reply)
            self.up.append(up)
            self._replies[identity] = Message(reply, reply_to=message)

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        found, self.extra = self.extra, []
        return found + [self._replies.pop(identity) for identity in list(identities) if identity in self._replies]


def with_packet(change: Callable[[Packet], Packet]) -> Twist:
    """A node whose packets are changed on the way."""
    return lambda _, record: wire.to_record(change(wire.from_record(record)))
