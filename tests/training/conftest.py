"""What the training verbs change in the process is put back, so that the tests after them find it as it was."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """The verbs flush denormal numbers to nought in the whole process; hypothesis refuses to draw floats then."""
    yield
    torch.set_flush_denormal(False)
