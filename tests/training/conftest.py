"""Processes for the tests that need real ones."""

from collections.abc import Iterator

import pytest

from tests.training.nursery import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts `xmodular` in processes of its own."""
    made = Nursery(tmp_path_factory.mktemp("processes"))
    yield made
    made.close()
