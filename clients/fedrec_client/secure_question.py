"""A question of a secure sum, checked against card and policy before anything is computed: for every aggregator."""

import numpy as np

from fedrec.federation import exchange
from fedrec.run import masked
from fedrec.secagg import Roster
from fedrec.wire import Packet, WireError
from fedrec_client.consent.consent import Asked, Consent
from fedrec_client.prepared_run import PreparedRun
from fedrec_client.run_gate import Admitted, RunGate


def secure_question(
    packet: Packet, admitted: Admitted, run: PreparedRun, gate: RunGate, consent: Consent
) -> tuple[masked.Asked, Roster, np.ndarray]:
    """Return what the round follows from, the nodes' keys, and the positions of this node's users who are asked.

    Args:
        packet: the question, with the keys and the numbers of users of all nodes.
        admitted: the same, as the gate admitted it.
        run: its run, in which users add the noise.
        gate: compares roster and cohort with the card.
        consent: the node's policy.
    Raises: WireError with one word for the server.
    """
    roster, counts = masked.roster_of(packet)
    gate.check_roster(admitted, roster)
    cohort = exchange.cohort_of(packet, run.users)
    gate.check_cohort(admitted, cohort, run.users)
    terms = gate.terms(admitted, public=run.public)
    about = Asked(packet.round, admitted.whole, run.identities, cohort, run.public)
    if fault := consent.refusal(terms, about):
        raise WireError("terms", fault)
    return asked_of(admitted, run, counts), roster, cohort


def asked_of(admitted: Admitted, run: PreparedRun, counts: tuple[int, ...], ahead: int | None = None) -> masked.Asked:
    """Return what the round of a question follows from.

    Args:
        admitted: the question, as the gate admitted it.
        run: its run, in which users add the noise.
        counts: users of each node who are asked.
        ahead: when the keys of the round were made; None for keys of this round.
    """
    noise, question, charge = run.spec.noise, admitted.question, admitted.paid.charge
    assert noise is not None
    dropout, colluding = noise.dropout or 0.0, noise.colluding or 0.0
    return masked.Asked(admitted.card.digest, question, charge, counts, dropout, colluding, ahead)
