"""The studio of the tests that use its page; `inputs` of each has a tiny checkpoint."""

import pytest

from diffusers_dawn import Studio


@pytest.fixture(scope="module")
def studio(inputs):
    made = Studio(inputs / "tiny", device="cpu", max_seconds=20)
    yield made
    made.close()
