"""What the tests share: names that nobody else has, and that nothing is left of them."""

import itertools
import os
from collections.abc import Iterator

import pytest
import shmslot

_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A name for one segment of one test."""
    unique = f"python-{os.getpid()}-{next(_numbers)}"
    yield unique
    try:
        shmslot.unlink(unique)
    except shmslot.NotFound:
        pass
