"""What every peer does on the wire and hands to its program, as data and against a real server."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.harness.compare")
