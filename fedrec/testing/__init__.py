"""The contract tests of fedrec, for algorithms of other packages too. They need pytest (`pip install fedrec[test]`)."""

from fedrec.testing import assertions as assertions  # before the others
from fedrec.testing.algorithm import AlgorithmContract
from fedrec.testing.model import ModelContract

__all__ = ["AlgorithmContract", "ModelContract"]
