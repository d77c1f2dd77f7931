"""Plug-ins: what other packages add to fedrec, found by entry points in one place, and who may run it.

| entry-point group | what an entry names | how a run names it |
|---|---|---|
| `fedrec.algorithms` | a subclass of `Algorithm` | `algorithm.name` |
| `fedrec.towers` | a subclass of `ItemTower` | `algorithm.tower.name` |
| `fedrec.readers` | a function from a folder to a `Log` | `data.name` |
| `fedrec.metrics` | a function of (placed, k) or (placed) | `evaluation.metrics` |
| `fedrec.encoders` | a subclass of `Encoder` | `fedrec data encode --encoder` |
| `fedrec.commands` | a typer app, or a function | `fedrec NAME` |

Built-in names always mean the built-in code: an entry of another package under such a name is never loaded. A plug-in
is imported when a run names it, not before. Servers and nodes restrict their processes to the plug-ins that their
operators allow (`only`); code that is named by a reference (`package.module:Class` or `file.py:Class`) runs in
simulations alone.
"""

import hashlib
import importlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from typing import Any, Literal, TypeVar

from fedrec.errors import InputError, nearest

Group = Literal["fedrec.algorithms", "fedrec.towers", "fedrec.readers", "fedrec.metrics", "fedrec.encoders"]
OWN = "fedrec"
"""The distribution whose entry points are built in."""

T = TypeVar("T")
Check = Callable[[Any, str], str | None]
"""Function of a loaded object and its name: returns the fault, None for a usable object."""

_only: ContextVar[frozenset[str] | None] = ContextVar("plug-ins that may run", default=None)


class PluginRefused(InputError):
    """This process may not run the code that was named."""


@contextmanager
def only(names: Iterable[str]) -> Iterator[None]:
    """Run no plug-ins but those of these names, and no code named by a reference, within this block."""
    before = _only.set(frozenset(names))
    try:
        yield
    finally:
        _only.reset(before)


@dataclass(frozen=True)
class Plugin:
    """An entry point.

    own: whether it is one of fedrec itself. refused: why it is never loaded, empty where it may be.
    """

    entry: EntryPoint
    own: bool = False
    refused: str = ""

    @property
    def package(self) -> str:
        """The distribution and its version, or the module where there is no distribution."""
        dist = self.entry.dist
        return f"{dist.name} {dist.version}" if dist is not None else self.entry.module

    def load(self, check: Check | None = None) -> Any:
        """The object that it names.

        Raises:
            InputError: one line with package and reason.
        """
        if self.own:  # an error in fedrec itself keeps its traceback
            return self.entry.load()
        reason = self.refused
        if not reason:
            try:
                found = self.entry.load()
                reason = (check(found, self.entry.name) if check is not None else None) or ""
            except (Exception, SystemExit) as error:  # a stranger's module may do anything when it is imported
                reason = f"cannot be imported ({type(error).__name__}: {error})"
            if not reason:
                return found
        what = f"{_noun(self.entry.group)} '{self.entry.name}' of package {self.package}"
        raise InputError(f"{what}: {reason}; upgrade or uninstall the package")


def plugins(group: str, built_in: Collection[str] = ()) -> dict[str, Plugin]:
    """The entry points of `group` by name, not imported.

    Args:
        group: the entry-point group.
        built_in: names that belong to fedrec itself, besides the entry points of its own distribution.
    """
    installed = _installed(group, _path())
    own = {one.entry.name: one for one in installed if one.own}
    found: dict[str, Plugin] = dict(own)
    for one in installed:
        name = one.entry.name
        if one.own:
            continue
        if name in built_in or name in own:
            _warn_of_clash(f"{_noun(group)} '{name}' of package {one.package} is not used: the name is built in")
        elif name in found:
            found[name] = replace(one, refused=f"package {found[name].package} has one of this name too")
        else:
            found[name] = one
    return found


def _path() -> tuple[tuple[str, int], ...]:
    """Return the folders of `sys.path` with the times of their last change, which an installation moves on."""
    found = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:
            found.append((place, 0))
    return tuple(found)


@lru_cache(maxsize=32)
def _installed(group: str, path: tuple[tuple[str, int], ...]) -> tuple[Plugin, ...]:  # noqa: ARG001 - a key
    """Return the different entry points of `group` in the folders of `path`.

    A scan reads files of all packages, and the name of a package takes milliseconds to read.
    """
    scanned = entry_points(group=group)
    packages = {id(entry.dist): entry.dist for entry in scanned if entry.dist is not None}
    own = {key for key, package in packages.items() if package.name == OWN}
    found: dict[tuple[str, str], Plugin] = {}
    for entry in scanned:
        one = Plugin(entry, own=id(entry.dist) in own)
        if one.own or (entry.name, entry.value) not in found:
            found[entry.name, entry.value] = one
    return tuple(found.values())


def discover(group: Group, name: str, built_in: Mapping[str, T], check: Check) -> T:
    """The built-in or installed object of `group` that is called `name`; a plug-in is imported here, if it may run.

    Args:
        group: the entry-point group.
        name: as a run names it.
        built_in: fedrec's own, by name.
        check: finds what is wrong with a plug-in.

    Raises:
        PluginRefused: where this process may not run it.
        InputError: for an unknown name (it names the nearest), and for a plug-in that cannot be used.
    """
    allowed = _only.get()
    if name not in built_in and allowed is not None and name not in allowed:
        raise PluginRefused(f"{_noun(group)} '{name}' is not built in, and this process does not allow it as a plug-in")
    known = plugins(group, built_in)
    if name in built_in:
        return built_in[name]
    if name in known:
        loaded: T = known[name].load(check)
        return loaded
    raise InputError(f"unknown {_noun(group)} '{name}'.{nearest(name, [*built_in, *known])}")


def every(group: Group, built_in: Mapping[str, T], check: Check) -> dict[str, T]:
    """All that `discover` would find, by name. Plug-ins that cannot be used are left out."""
    found, allowed = dict(built_in), _only.get()
    for name, plugin in plugins(group, built_in).items():
        if allowed is not None and name not in allowed:
            continue
        try:
            found[name] = plugin.load(check)
        except InputError:
            continue
    return found


def check_plugins(names: Iterable[str]) -> frozenset[str]:
    """Check an allow list of a server or a node.

    Args:
        names: names of plug-ins.

    Returns: the same names, each that of an installed algorithm or tower of another package.
    Raises: InputError for another one.
    """
    found = frozenset(names)
    known = {*plugins("fedrec.algorithms"), *plugins("fedrec.towers")}
    for name in sorted(found - known):
        raise InputError(f"plug-in '{name}': no installed package brings an algorithm or tower of this name")
    return found


def is_reference(name: str) -> bool:
    """Return whether `name` refers to code by its place: `package.module:Class` or `file.py:Class`."""
    return ":" in name


def referenced(reference: str, check: Check) -> Any:
    """Load the object at `package.module:Class` or `file.py:Class`, for simulations alone.

    Raises:
        PluginRefused: inside a block of `only`.
        InputError: when it cannot be imported or used.
    """
    if _only.get() is not None:
        raise PluginRefused(f"'{reference}' names code by its place, which runs in simulations alone")
    place, _, name = reference.rpartition(":")
    try:
        found = getattr(_file(Path(place)) if place.endswith(".py") else importlib.import_module(place), name, None)
    except (Exception, SystemExit) as error:
        raise InputError(f"{reference}: cannot be imported ({type(error).__name__}: {error})") from None
    if found is None:
        raise InputError(f"{reference}: {place} has no '{name}'")
    reason = check(found, str(getattr(found, "name", "")))
    if reason:
        raise InputError(f"{reference}: {reason}")
    return found


def _file(path: Path) -> Any:
    path = path.resolve()
    module_name = f"fedrec_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"no file {path}")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


@dataclass(frozen=True)
class Origin:
    """The origin of code from other packages.

    Attributes:
        package: distribution and version; "no package" for a single file.
        file: the source file, from its top-level package on.
        sha256: SHA-256 (hex) of that file alone; "unknown" without a source.
    """

    package: str
    file: str
    sha256: str

    @property
    def text(self) -> str:
        """All three as one text."""
        return f"{self.package}, {self.file}, sha256 {self.sha256}"


def is_own(code: Any) -> bool:
    """Return whether a class or function is fedrec's own."""
    return code.__module__.partition(".")[0] in ("fedrec", "fedrec_client", "fedrec_server", "fedrec_sim")


def origin(code: Any) -> Origin | None:
    """Return the origin of a class or function; None for fedrec's own."""
    if is_own(code):
        return None
    module = code.__module__
    top = module.partition(".")[0]
    try:
        source = Path(inspect.getsourcefile(sys.modules[module]) or "")
        content = source.read_bytes()
    except (OSError, TypeError, KeyError):
        return Origin(_distribution(top), f"{module} (no source file)", "unknown")
    depth = module.count(".") + (2 if source.name == "__init__.py" else 1)
    return Origin(_distribution(top), "/".join(source.parts[-depth:]), hashlib.sha256(content).hexdigest())


def _distribution(top: str) -> str:
    names = packages_distributions().get(top, [])
    return " and ".join(f"{name} {version(name)}" for name in sorted(set(names))) or "no package"


@cache
def _warn_of_clash(line: str) -> None:
    logging.getLogger("fedrec.plugins").warning("%s", line)


def _noun(group: str) -> str:
    return group.rpartition(".")[2].removesuffix("s")
