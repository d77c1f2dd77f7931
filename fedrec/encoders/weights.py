"""Weights of encoders: where a package keeps them, and whether they are the ones that the code was written for."""

import hashlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedrec.errors import InputError
from fedrec.extras import missing


def lacks(*packages: str) -> str:
    """Return "lacks PACKAGE (how to install it)" for the first of the import packages that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"needs the package {package} (pip install 'fedrec[encoders]')"
    return ""


def in_package(package: str, *names: str) -> Path:
    """Return the path of a file in an installed package, without importing the package.

    Raises:
        InputError: when the package or the file is not there; the line names the extra.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        lacking = missing(ModuleNotFoundError("not installed", name=package), "data encode")
        raise lacking or InputError(f"the package {package} is not installed")
    file = Path(found.submodule_search_locations[0]).joinpath(*names)
    if not file.is_file():
        raise InputError(
            f"{file}: the installed {package} lacks it; pip install 'fedrec[encoders]' brings the right one"
        )
    return file


def version_of(distribution: str) -> str:
    """Return "NAME VERSION" of an installed distribution."""
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return distribution


def digest_of(place: Path) -> str:
    """Return the SHA-256 (hex) of a file, or of the names and contents of all files of a folder.

    Raises:
        InputError: when there is nothing at `place`.
    """
    if place.is_file():
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not place.is_dir():
        raise InputError(f"{place}: no such file or folder; name the model's")
    whole = hashlib.sha256()
    for inner in sorted(each for each in place.rglob("*") if each.is_file()):
        whole.update(f"{inner.relative_to(place).as_posix()}\n{digest_of(inner)}\n".encode())
    return whole.hexdigest()


def checked(place: Path, pinned: str, given: str) -> str:
    """Return the SHA-256 (hex) of weights, once it is the right one.

    Args:
        place: file or folder of the weights.
        pinned: the hash that the code expects; empty for weights of the user's own.
        given: the hash that the user names, which takes the place of `pinned`; empty for none.

    Raises:
        InputError: for other weights.
    """
    found, wanted = digest_of(place), (given or pinned).lower()
    if wanted and found != wanted:
        whose = "the one that you gave" if given else "the pinned one"
        raise InputError(
            f"{place}: its SHA-256 is {found}, and {whose} is {wanted}; install the pinned package again, or give "
            f"--sha256 {found} if you trust this file"
        )
    return found
