"""The methods of a device's consent: when it takes part, what it spent, and whether it contributes."""

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedrec_client.consent.report import Spending
    from fedrec_client.hosting import Server
    from fedrec_client.participation.stay import Participation, Plan
    from fedrec_client.store import Store


class ConsentOfDevice(ABC):
    """A base of EdgeClient, which has the device's folder and lock."""

    _lock: threading.RLock
    _store: "Store"

    @property
    @abstractmethod
    def path(self) -> Path:
        """The device's folder."""

    def participate(
        self, server: "Server", items: str | Path, plan: "Plan | None" = None, *, catalogue: str | Path | None = None
    ) -> "Participation":
        """Take part in a server's runs while the policy's table `[device]` lets the device; other threads may use it.

        Args:
            server: where it is, and the device's node key.
            items: file of the run's items (`fedrec client items`).
            catalogue: the server's file of items, for algorithms that need torch; None to refuse these.
            plan: deadline, rounds, the event that ends it, and the source of the device's conditions.

        Returns:
            Why it ended, and the rounds that the device paid for.

        Raises:
            InputError: for files that cannot be used, a server that refuses the device, a folder in use.
            VerificationError: for a damaged device ledger.
        """
        from fedrec_client.participation import stay

        made, public = stay.Plan() if plan is None else plan, None if catalogue is None else Path(catalogue)
        return stay.participate(self.path, self._store, server, Path(items), made, catalogue=public)

    def budget(self) -> "Spending":
        """Return what the device spent of its privacy budget, and whether its answers are without events now.

        `fedrec client budget` shows the same of the ledger alone: of a trust period, what the newest answer shows.

        Raises:
            InputError: for a policy that cannot be used, or a ledger that is missing where its counter is there.
            VerificationError: for a damaged device ledger.
        """
        from fedrec_client.consent.device_ledger import FILE
        from fedrec_client.consent.files import POLICY, policy_of
        from fedrec_client.consent.report import spending
        from fedrec_client.participation.store_mark import StoreMark

        with self._lock:
            policy = self.path / POLICY
            found = spending(self.path / FILE, policy if policy.exists() else None)
            days = policy_of(self.path).device.trust_days
            return replace(found, without_events=StoreMark(self.path, self._store).trust_period(time.time(), days))

    @property
    def opted_out(self) -> bool:
        """Whether the device's policy lets it contribute only zeros."""
        from fedrec_client.consent.files import policy_of

        return policy_of(self.path).data.opted_out

    def opt_out(self) -> None:
        """Contribute only zeros from the next question on; lists do not change.

        A server cannot see it: the device takes part, pays and answers as others do. A running node follows at once.
        """
        self._opt(True)

    def opt_in(self) -> None:
        """Contribute again, within the limits of the policy."""
        self._opt(False)

    def _opt(self, out: bool) -> None:
        from fedrec_client.consent.files import write_opted_out

        with self._lock:
            write_opted_out(self.path, out)
