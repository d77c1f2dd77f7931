"""The Flower ClientApp of a node: unpacks a message, lets the `UserNode` answer, packs the answer.

What the node holds of the shared model is kept in Flower's context for the run, so that a new process for every message
(Flower's stock way) still needs only what changed. `answer_message` is all there is to call for a program
that starts processes in another way.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrec import wire
from fedrec.errors import InputError
from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.transport.node_key import load_node_key
from fedrec.wire import Packet, WireError
from fedrec_client.consent.policy import Policy, parse
from fedrec_client.consent_files import consent_of, node_folder, policy_text
from fedrec_client.node import UserNode, log
from fedrec_client.node_config import VIRTUAL, ConfigError, is_device
from fedrec_client.run_gate import Pins, RunGate

app = ClientApp()


@app.query()
def hello(message: Message, context: Context) -> Message:
    """How many users there are here."""
    return answer_message(message, context)


@app.train()
def work(message: Message, context: Context) -> Message:
    """A round's sums."""
    return answer_message(message, context)


def answer_message(message: Message, context: Context) -> Message:
    """The reply to one message. Never raises: an exception's text would travel to the server."""
    answer = _answer(message.content if message.has_content() else None, context)
    return Message(wire.to_record(answer), reply_to=message)


def _answer(record: Any, context: Context) -> Packet:
    arrays: wire.Arrays = "numpy" if is_device(dict(context.node_config)) else "torch"
    try:
        packet = wire.from_record(record, arrays)
    except WireError as error:
        log.warning("refused a message: %s", error)
        return exchange.refusal(error.code)
    try:
        config = dict(context.node_config)
        node = _node(json.dumps(config, sort_keys=True), policy_text(config))
        for name, kept in _kept(context.state, arrays).items():
            if node.held.get(name, ("",))[0] != kept[0]:
                node.held[name] = kept
        answer = node.answer(packet)
        if answer.kind == exchange.SUMS or packet.kind in (masked.MASKED, masked.HELPED):
            _keep(context.state, node)
        return answer
    except ConfigError as error:
        log.error("cannot find users: %s", error)
        return exchange.refusal("data", packet)
    except Exception as error:
        log.error("could not answer: %s", type(error).__name__)
        return exchange.refusal("error", packet)


@lru_cache(maxsize=8)
def _node(config: str, policy: str = "") -> UserNode:
    """Return the node of this process with that configuration and policy; a warm process keeps it between messages."""
    values, rules = json.loads(config), parse(policy, "policy")
    gate, consent = _gate(values, rules), consent_of(values, rules)
    if is_device(values):
        if gate is None:
            raise ConfigError("a device's store is for no simulation, whose data are one person's; start a node")
        from fedrec_client.participation.device_node import device_node

        return device_node(values, rules, gate, consent)
    from fedrec_client.sources import allowed_plugins, finder

    bounds = {key: values[name] for key, name in _BOUNDS.items() if name in values}
    plugins = allowed_plugins(values, rules.run.plugins)
    return UserNode(finder(values, rules.data), plugins=plugins, gate=gate, consent=consent, **bounds)


def _gate(config: Mapping[str, Any], policy: Policy) -> RunGate | None:
    """Return the gate of a node; None for a simulation's virtual node, whose run is its own."""
    if os.environ.get(VIRTUAL) == "1":
        return None
    pins, key = Pins(policy.server.ledger_keys, policy.server.witnesses, policy.server.helpers), config.get("key")
    try:
        signer = load_node_key(Path(str(key))) if key else None
        return RunGate(node_folder(config) / "runs", lambda: pins, signer, kept=not config.get("stock"))
    except InputError as error:
        raise ConfigError(str(error)) from None


_BOUNDS = {"device": "device", "batch_users": "batch-users", "batch_events": "batch-events"}


def _keep(state: Any, node: UserNode) -> None:
    digests = {name: digest for name, (digest, _) in node.held.items()}
    tensors = {name: tensor for name, (_, tensor) in node.held.items()}
    state.update(wire.to_record(Packet("held", facts={"digests": json.dumps(digests)}, tensors=tensors)))


def _kept(state: Any, arrays: wire.Arrays) -> dict[str, Any]:
    """What `_keep` kept, or nothing: a node that lost it asks for all again."""
    try:
        packet = wire.from_record(state, arrays).expect("held")
        digests = json.loads(packet.fact("digests", str))
        return {name: (digests[name], tensor) for name, tensor in packet.tensors.items()}
    except (WireError, ValueError, KeyError, TypeError):
        return {}
