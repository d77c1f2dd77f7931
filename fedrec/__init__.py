"""fedrec: federated recommendation in which a person's history and taste vector never leave their device.

The names below are the Python API (docs/python.md). Each is imported when it is first used, so `import fedrec` loads
neither PyTorch nor polars. `__init__.pyi` holds the same names for type checkers and editors.
"""

from fedrec.lazy_names import lazily as _lazily

__getattr__, __dir__, __all__ = _lazily(
    __name__,
    {
        "load_dataset": "fedrec.api.data",
        "read_log": "fedrec.api.data",
        "split": "fedrec.api.data",
        "Data": "fedrec.api.data",
        "load_scenario": "fedrec.api.simulate",
        "simulate": "fedrec.api.simulate",
        "resume": "fedrec.api.simulate",
        "load_run": "fedrec.api.run",
        "Run": "fedrec.api.run",
        "load_model": "fedrec.api.model",
        "Model": "fedrec.api.model",
        "verify": "fedrec.api.audit",
        "encode": "fedrec.api.encode",
        "BudgetExhausted": "fedrec.errors",
        "FedrecError": "fedrec.errors",
        "InputError": "fedrec.errors",
        "PrivacyError": "fedrec.errors",
        "VerificationError": "fedrec.errors",
    },
)
