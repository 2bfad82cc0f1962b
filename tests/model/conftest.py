"""In this room, memory that a prediction gives back is filled with NaN: whoever reads it later is found out."""

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
