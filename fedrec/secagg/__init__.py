"""Secure aggregation: a server learns the sum of many vectors modulo 2**bits and nothing else of them.

Pure functions and small state machines for every party, without input and output: a transport carries the messages,
which all have `encode` and `decode`. Only `fedrec.secagg.file_journal` writes files. Importing this package loads NumPy
and `cryptography`, not PyTorch.

Two aggregators have one interface (`aggregate_in_memory`), and all of it follows from one `Round`, whose digest is in
every key and signature:

| | `peers` | `helper` |
|---|---|---|
| who must not work together | the server and more members than assumed | the server and the helper |
| a member's messages | five, or three with keys made `Ahead`, `PeerClient` | one, `helper_input` |
| the server's side | `PeerServer` | `HelperServer`, and `Helper` at the second party |
| members that may drop | as assumed, any stage | all but the minimum cohort |

The order of calls is that of `fedrec.secagg.in_memory`. For a transport:

1. Build the same `Round` at the server and, from the run card, at each member. A `number` is used once, ever; a void
   round needs a new one and a new charge.
2. Put all sums of a round into one vector: a member answers a number once. Take the largest of their moduli; the
   smaller ones divide it, so a part of the total can be reduced afterwards.
3. A member that raises `Refused`, or sends what `decode` refuses, has dropped. Its refusal says nothing of its vector.
4. A stage of the server that returns `Void` ends the round.
5. Two stages of `peers` may run during the round before: give `Ahead` in place of the `Round`, and `begin` the round
   before its vectors are masked.

A member keeps a `Journal` on disk, and so does the helper: after a restart a member has dropped from the round, and a
helper gives the same answer again or none.
"""

from fedrec.secagg.graph import Ahead, Graph
from fedrec.secagg.helper_messages import HelperInput, Opening, OpenRequest
from fedrec.secagg.helper_parties import Helper, HelperServer, VerifyCharge, helper_input
from fedrec.secagg.in_memory import Members, aggregate_in_memory
from fedrec.secagg.journal import Journal, MemoryJournal
from fedrec.secagg.outcome import Malformed, Refused, Total, Void
from fedrec.secagg.parameters import Assumption, Parameters, parameters
from fedrec.secagg.peer_client import PeerClient, Stage
from fedrec.secagg.peer_messages import (
    Advertise,
    Confirmation,
    Confirmations,
    KeyList,
    MaskedInput,
    Shares,
    Survivors,
    Unmasking,
)
from fedrec.secagg.peer_server import PeerServer
from fedrec.secagg.roster import Roster
from fedrec.secagg.round import Round

__all__ = [
    "Advertise",
    "Ahead",
    "Assumption",
    "Confirmation",
    "Confirmations",
    "Graph",
    "Helper",
    "HelperInput",
    "HelperServer",
    "Journal",
    "KeyList",
    "Malformed",
    "MaskedInput",
    "Members",
    "MemoryJournal",
    "OpenRequest",
    "Opening",
    "Parameters",
    "PeerClient",
    "PeerServer",
    "Refused",
    "Roster",
    "Round",
    "Shares",
    "Stage",
    "Survivors",
    "Total",
    "Unmasking",
    "VerifyCharge",
    "Void",
    "aggregate_in_memory",
    "helper_input",
    "parameters",
]
