"""Diagnosis of a Flower node that was refused or gave up: one line, read from its log.

Source: flwr 1.41. Its SuperNode ends with exit code 1 for most faults. If the server refused its signature or dropped
its number, the exit code is 0. After a connected node's request has failed for good, the process stays and sends no
further requests.
"""

import re
from dataclasses import dataclass

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^ERROR *: +(.*)$", re.MULTILINE)
_PASSES = ("Failed to ", "The FAB could not", "FAB verification failed", "SSL/TLS handshake error")
"""Errors of one message or of one attempt, after which the node continues."""


@dataclass(frozen=True)
class Refusal:
    """The reason why a node does not work.

    Attributes:
        line: the fault and its remedy.
        may_pass: whether a later restart of the node may help.
    """

    line: str
    may_pass: bool = False


_KNOWN: tuple[tuple[str, Refusal], ...] = (
    (
        r"\[code: 2004\]",
        Refusal(
            "the server does not admit this node: it does not have its key (`fedrec keys node DIR NAME --public "
            "FILE.pub` there, then restart it), or a node with this key is or was connected within the last minute",
            may_pass=True,
        ),
    ),
    (
        r"\[code: 2001\]",
        Refusal(
            "the server admits only nodes with a registered key and this node has none; `fedrec client key FILE` makes "
            "one, then start it with --key FILE"
        ),
    ),
    (
        r"\[code: 1001\]|Exit Code: 606",
        Refusal("the server runs another version of Flower; install the same fedrec[deploy] here and there"),
    ),
    (
        r"unable to get local issuer certificate|self.signed certificate|certificate signature failure",
        Refusal("the server's certificate is not signed by --ca; get ca.crt from the operator of the server"),
    ),
    (
        r"certificate has expired",
        Refusal("the server's certificate expired; `fedrec keys renew DIR` on the server, then restart it"),
    ),
    (
        r"certificate is not yet valid",
        Refusal("the server's certificate is not valid yet; set the clock of this machine or of the server"),
    ),
    (
        r"[Hh]ostname mismatch|IP address mismatch",
        Refusal("the server's certificate is for other hosts than --server; `fedrec keys renew DIR --host` adds one"),
    ),
    (
        r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE",
        Refusal("the server speaks no TLS at this port; give the port of `fedrec server`"),
    ),
    (
        r"Exit Code: 303|Exit Code: 603",
        Refusal("this node has a key and no TLS; start it with --ca, which switches TLS on"),
    ),
    (
        r"address already in use",
        Refusal("another process of this machine listens at this node's port; choose another one with --port"),
    ),
    (
        r"Exit Code: 302",
        Refusal("Flower cannot read this node's key; make one with `fedrec client key FILE`"),
    ),
    (
        r"Server disconnected without sending a response|Connection reset by peer|UNEXPECTED_EOF_WHILE_READING",
        Refusal("the server broke off: it was stopped, or this node has no TLS and it speaks TLS alone", may_pass=True),
    ),
    (
        r"Connection refused|timed out|No route to host|Name or service not known",
        Refusal("the server cannot be reached; is it started, are host, port and firewall right?", may_pass=True),
    ),
)

_SIGNATURE = Refusal(
    "the server refused this node's signature: set this machine's clock by NTP (at most 5 seconds ahead of the "
    "server's)"
)
_FORGOTTEN = Refusal(
    "the server dropped this connection: it was restarted, or the node was removed there", may_pass=True
)
"""A restarted link gives every key a new number, which the node receives with the next welcome."""


def diagnose(log: str, exit_code: int | None, stopped: bool = False) -> Refusal | None:
    """Diagnose a SuperNode from its log.

    Args:
        log: the SuperNode's output.
        exit_code: None while it runs. Then only errors without recovery count.
        stopped: True if a stop was requested.

    Returns:
        The reason why the node does not work; None for a working or stopped node.
    """
    plain = _COLOUR.sub("", log)
    since = plain[plain.rfind("SuperNode ID: ") :] if "SuperNode ID: " in plain else plain
    if exit_code is None:
        fatal = [found for found in _ERROR.finditer(since) if not found[1].startswith(_PASSES)]
        return _known(since[fatal[0].start() :], fatal[0][1]) if fatal else None
    if stopped:
        return None
    if exit_code == 0:
        return _FORGOTTEN if "SuperNode ID: " in plain else _SIGNATURE
    return _known(since, f"it ended with exit code {exit_code}")


def _known(text: str, otherwise: str) -> Refusal:
    for pattern, found in _KNOWN:
        if re.search(pattern, text):
            return found
    said = "".join(filter(str.isprintable, " ".join(otherwise.split())))[:200]
    return Refusal(f"Flower's node gave up ({said}); see its log", may_pass=True)
