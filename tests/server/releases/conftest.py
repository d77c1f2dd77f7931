import pytest

pytest.importorskip("tuf", reason="needs the extra fedrec[sync]")
