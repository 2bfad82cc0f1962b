"""A fixture of the tests of malformed files."""

import functools

import make_files as mf
import pytest


@pytest.fixture
def refused(tmp_path):
    """Asserts that content is refused with an error of ours, in the words given; see make_files.assert_refused."""
    return functools.partial(mf.assert_refused, tmp_path)
