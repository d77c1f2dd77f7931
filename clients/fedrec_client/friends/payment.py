"""The price of a share, charged to the device ledger before the share exists: friends share the filter of all runs.

A share is one Gaussian release against any two vectors of the user, so its squared signal-to-noise adds to that of the
runs. It counts in the policy's period like a run, and all shares in one model's space count as one run.
"""

import hashlib
import os
from dataclasses import astuple
from pathlib import Path

import numpy as np

from fedrec.errors import BudgetExhausted
from fedrec.social.shares import ShareTerms
from fedrec_client.consent.answering import Asked, Reason
from fedrec_client.consent.device_ledger import FILE, DeviceLedger
from fedrec_client.consent.files import policy_of
from fedrec_client.consent.terms import QueryTerms, RunTerms

MECHANISM = "Gaussian, a share for friends, any two vectors of one user"


def run_of(terms: ShareTerms) -> RunTerms:
    """Return a share as the terms of a run of one round. Its sensitivity is twice the clip, for any two vectors."""
    query = QueryTerms("share", (terms.width,), 2 * terms.clip, 1 / terms.mu, terms.std)
    return RunTerms(
        run=f"friends {terms.space}",
        algorithm="friends",
        fingerprint="",
        rounds=((query,),),
        sampling=1.0,
        trust="local",
        minimum_cohort=1,
        epsilon=terms.epsilon,
        delta=terms.delta,
        users=1,
        mechanism=MECHANISM,
    )


def pay(folder: Path, terms: ShareTerms) -> int:
    """Charge a share to the ledger of the device in `folder`; when this returns, the charge is on disk.

    Returns:
        Unix seconds of the charge, as the ledger counts them.

    Raises:
        BudgetExhausted: where the policy's limits do not cover it, or lines of the ledger are missing.
        VerificationError: for a damaged ledger.
    """
    policy, run = policy_of(folder), run_of(terms)
    ledger = DeviceLedger(folder / FILE, policy)
    question = hashlib.sha256(repr(astuple(terms)).encode() + os.urandom(16)).hexdigest()
    alone = np.zeros(1, np.int64)
    verdict = ledger.charge(run, Asked(0, question, alone, alone, False))
    if not verdict.give.all():
        if Reason.RESTORED in verdict.reasons:
            raise BudgetExhausted("share: lines of the device ledger are missing, so its period counts as spent")
        raise BudgetExhausted(
            f"share: epsilon {terms.epsilon:g} does not fit into what is left of the device's budget (`fedrec client "
            "budget`); friends keep the share that they have"
        )
    ledger.outcome(run.run, 0, question, "released")
    return ledger.now()
