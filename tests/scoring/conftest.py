"""Fixtures of the tests of files: a small model, and chunks that are small as well."""

import pytest
from small_files import save_model

from fastbilstm.scoring import loop as chunks


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model.fbl")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 8 rows, where a batch has 4."""
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 8)
    return ["--batch-size", 4]
