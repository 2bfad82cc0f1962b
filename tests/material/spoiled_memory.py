"""A fixture: memory that a prediction gives back is filled with NaN, and whoever reads it later is found out.

A room uses it if its conftest.py imports it.
"""

import pytest


@pytest.fixture(autouse=True, scope="session")
def spoiled_memory():
    try:
        from fastbilstm import _kernels
    except ImportError:
        yield
        return
    before = _kernels.spoil_freed(True)
    yield
    _kernels.spoil_freed(before)
