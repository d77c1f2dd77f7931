"""The helper that a server's operator names, and how the server's processes get to know it."""

import os
from dataclasses import dataclass
from pathlib import Path

from fedrec.errors import InputError
from fedrec_server.helper.keys import read_public
from fedrec_server.helper.link import HelperLink, host_and_port

ADDRESS_VARIABLE, KEY_VARIABLE = "FEDREC_HELPER", "FEDREC_HELPER_KEY"
"""The environment variables in which a server's processes find its helper."""


@dataclass(frozen=True)
class NamedHelper:
    """A helper by its address, and the file of its public parts."""

    address: str
    file: Path

    @property
    def options(self) -> list[str]:
        """The options of `fedrec server start`."""
        return ["--helper", self.address, "--helper-key", str(self.file)]


def named(address: str | None, file: Path | None) -> NamedHelper | None:
    """Return the helper that the options name, looked at now so that a mistake shows. Raises: InputError."""
    if address is None and file is None:
        return None
    if address is None or file is None:
        raise InputError("--helper and --helper-key go together: the helper's address, and its helper.pub")
    host_and_port(address)
    read_public(file)
    return NamedHelper(address, file.absolute())


def environment(helper: NamedHelper | None) -> dict[str, str]:
    """Return the variables for a server's processes; empty ones without a helper, whatever the environment says."""
    if helper is None:
        return {ADDRESS_VARIABLE: "", KEY_VARIABLE: ""}
    return {ADDRESS_VARIABLE: helper.address, KEY_VARIABLE: str(helper.file)}


def published() -> HelperLink | None:
    """Return the way to the helper of this server's processes; None where there is none. Raises: InputError."""
    address, file = os.environ.get(ADDRESS_VARIABLE, ""), os.environ.get(KEY_VARIABLE, "")
    return HelperLink(address, read_public(Path(file))) if address and file else None
