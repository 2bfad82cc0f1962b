"""Where the tests find real models and reviews that are not part of the project; tests that use them skip without.

The folder is named by FASTBILSTM_SHARED, by default ../shared beside the project. Imports the standard library and
pytest only.
"""

import os
from pathlib import Path

import pytest
from paths import ROOT

SHARED = Path(os.environ.get("FASTBILSTM_SHARED") or ROOT.parent / "shared")


def shared_file(name):
    """The path of a file of the shared folder; skips the test, by the file's name, where it is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the shared folder (FASTBILSTM_SHARED)")
    return path
