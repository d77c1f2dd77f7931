"""Another release takes the place of the one in use, whole or not at all, while requests are answered."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from fedrec.errors import FedrecError
from fedrec.ondevice.released import model_folder, read_manifest
from fedrec.screen import say
from fedrec.serving.loaded import Loaded
from fedrec.serving.routes import Serving


class Reloading:
    """Loads the release of a path again when it is asked to, or when its manifest changes.

    Args:
        serving: whose model is replaced. A request that has begun keeps the model that it began with.
        load: opens the model of the path.
        run: the path, e.g. a link that is pointed at another release.
        seconds: between two looks at the manifest; None to look only when asked.
    """

    def __init__(self, serving: Serving, load: Callable[[Path], Loaded], run: Path, seconds: float | None) -> None:
        self._serving, self._load, self._run, self._seconds = serving, load, run, seconds
        self._wanted, self._ended = threading.Event(), False
        self._tried = ""  # the manifest that was tried last; one that was refused is tried again only when asked
        self._thread = threading.Thread(target=self._work, name="fedrec-reload", daemon=True)

    def __enter__(self) -> "Reloading":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._wanted.set()
        self._thread.join(30)

    def ask(self) -> None:
        """Load it again soon; safe in a handler of a signal."""
        self._wanted.set()

    def once(self) -> str:
        """Load the release now, if it is another one: `used`, `same`, or `refused` where the old one stays in use."""
        try:
            self._tried = _digest(self._run)
            found = None if self._tried == self._serving.model.about.digest else self._load(self._run)
        except FedrecError as error:
            say(f"reload refused, the model in use stays: {error}", err=True)
            self._serving.metrics.reloaded("refused")
            return "refused"
        if found is not None:
            self._serving.model = found
            self._serving.metrics.model(found.about)
            say(f"reloaded: {found.about.algorithm}, {found.about.items:,} items, {found.about.digest[:16]}", err=True)
        result = "same" if found is None else "used"
        self._serving.metrics.reloaded(result)
        return result

    def _changed(self) -> bool:
        try:
            return _digest(self._run) not in (self._serving.model.about.digest, self._tried)
        except FedrecError:
            return False

    def _work(self) -> None:
        while True:
            asked = self._wanted.wait(self._seconds)
            self._wanted.clear()
            if self._ended:
                return
            if asked or self._changed():
                self.once()


def _digest(run: Path) -> str:
    return hashlib.sha256(read_manifest(model_folder(run))[1]).hexdigest()
