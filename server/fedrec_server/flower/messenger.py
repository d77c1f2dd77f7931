"""Questions to nodes and their replies over Flower's Grid, with short polls and a deadline.

Flower's own `send_and_receive` sleeps three seconds at a time. Replies are matched by the id of the question. A reply
to another question, a second reply, and a reply from another node are counted and dropped. The question stays open.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from fedrec import wire
from fedrec.errors import FedrecError
from fedrec.wire import Packet, WireError

log = logging.getLogger("fedrec.server")

POLL_SECONDS = 0.1


class TooFewNodes(FedrecError):
    """Fewer nodes than needed were online in time (exit code 5). Finished rounds are saved."""

    exit_code = 5


class Grid(Protocol):
    """The part of Flower's Grid that the messenger uses."""

    def get_node_ids(self) -> Any:
        """Ids of the nodes that are online."""
        ...

    def push_messages(self, messages: Any) -> Any:
        """Send messages, and return their ids."""
        ...

    def pull_messages(self, message_ids: Any) -> Any:
        """Return the replies to these messages that have arrived."""
        ...


class Messenger:
    """Send questions to nodes over a grid, and collect their replies.

    Args:
        grid: Flower's Grid.
        poll: seconds between polls.
        clock: the clock of deadlines, in seconds.
        give_up: called before each poll with the seconds that the poll may last.

    Attributes:
        counts: number of dropped or failed messages, by reason.
        sent: bytes of tensors sent so far.
        received: bytes of tensors received so far.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        poll: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        give_up: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.grid, self.poll, self.clock, self.give_up = grid, poll, clock, give_up
        self.counts: Counter[str] = Counter()
        self.sent = self.received = 0

    def online(self) -> set[int]:
        """Return the ids of the nodes that are online; none while the link does not answer."""
        return set(self._reached(self.grid.get_node_ids))

    def ask(self, questions: Mapping[int, Any], kind: str, group: str, until: float) -> Iterator[tuple[int, Packet]]:
        """Send each node its question, and yield the nodes' packets as they arrive.

        A node that fails, or whose reply is no packet, is counted and not yielded.

        Args:
            questions: a RecordDict for each node, by Flower's id.
            kind: Flower's message type.
            group: label of the messages, for logs.
            until: deadline by `clock`.
        """
        from flwr.app import Message

        open_questions: dict[str, int] = {}
        lifetime = max(1.0, until - self.clock())
        for node, record in questions.items():
            message = Message(record, dst_node_id=node, message_type=kind, group_id=group, ttl=lifetime)
            for identity in self._reached(partial(self.grid.push_messages, [message])):
                open_questions[identity] = node
                self.sent += wire.size(record)
        self.counts["not sent"] += len(questions) - len(open_questions)
        while open_questions:
            self.give_up(until - self.clock())
            for reply in self._reached(partial(self.grid.pull_messages, list(open_questions))):
                identity = reply.metadata.reply_to_message_id
                if identity not in open_questions:
                    self.dropped("late or duplicate" if identity else "unreadable", group)
                    continue
                node = open_questions[identity]
                if reply.has_error():
                    # The text of the error is the node's; only Flower's number is written down.
                    self.dropped(f"error {int(reply.error.code)}", group, node)
                    del open_questions[identity]
                elif reply.metadata.src_node_id != node:
                    self.dropped("foreign", group, node)
                else:
                    del open_questions[identity]
                    try:
                        packet = wire.from_record(reply.content)
                        self.received += wire.size(reply.content)
                        yield node, packet
                    except WireError as error:
                        self.dropped(error.code, group, node)
            if not open_questions or self.clock() >= until:
                break
            self.wait()
        for node in open_questions.values():
            self.dropped("no reply", group, node)

    def _reached(self, call: Callable[[], Any]) -> list[Any]:
        """Return the link's answer, or nothing where it fails: the next poll may succeed."""
        try:
            return list(call())
        except Exception as error:
            self.counts["link failed"] += 1
            log.warning("the link did not answer (%s)", type(error).__name__)
            return []

    def wait(self) -> None:
        """Wait until the next poll."""
        time.sleep(self.poll)

    def dropped(self, why: str, group: str, node: int | None = None) -> None:
        """Count and log a dropped message: the reason and the node, without any of its content."""
        self.counts[why] += 1
        log.warning("%s: %s from %s, not used", group, why, "an unknown node" if node is None else f"node {node}")
