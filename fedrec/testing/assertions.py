"""Makes pytest show the values in a contract's failed assertions, as it does for the tests of a project itself."""

import pytest

pytest.register_assert_rewrite(
    *(f"fedrec.testing.{name}" for name in ("algorithm", "awkward", "model", "steps", "sums"))
)
