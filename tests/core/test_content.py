import pytest

from fedrec.algorithms.base import Algorithm, Setting
from fedrec.algorithms.content import Content, ContentConfig
from fedrec.errors import InputError
from tests.core.algorithm_contract import AlgorithmContract


class TestContent(AlgorithmContract):
    def make(self, setting: Setting) -> Algorithm:
        return Content(ContentConfig(), setting)
