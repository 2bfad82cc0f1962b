"""Files that are no model, weights without an architecture, versions of Keras that are unknown: how each is refused.

Files are built by hand (make_files.py). HDF5 is in test_hdf5.py, archives in test_archive.py, architectures in
test_config.py, converted files in test_malformed_fbl_file.py, random damage in test_fuzz.py.
"""

import make_files as mf
import numpy as np
import pytest

import fastbilstm

NO_MODEL = {
    "empty": (b"", "is empty"),
    "one byte": (b"\x89", "neither a converted model nor a Keras file"),
    "wrong magic": (b"\x00" * 4096, "neither a converted model nor a Keras file"),
    "text": (b"epoch,loss\n1,0.5\n", r"a table of text \(CSV\): it holds no model"),
    "HDF5 magic only": (b"\x89HDF\r\n\x1a\n", "not a readable HDF5 file"),
    "HDF5 half": (mf.h5()[: len(mf.h5()) // 2], "not a readable HDF5 file"),
    "HDF5 less one byte": (mf.h5()[:-1], "not a readable HDF5 file"),
    "zip magic only": (b"PK\x03\x04", "damaged .keras archive"),
    "zip half": (mf.archive()[: len(mf.archive()) // 2], "damaged .keras archive"),
    "zip less one byte": (mf.archive()[:-1], "damaged .keras archive"),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_no_model(case, refused):
    refused(*NO_MODEL[case])


def test_the_files_these_tests_damage_are_good():
    expected = fastbilstm.load(mf.h5()).predict(mf.IDS)
    config = mf.sequential() | {"keras_version": mf.KERAS2}
    for options in (
        {"path": mf.h5(mf.functional())},
        {"path": mf.archive()},
        {"path": mf.h5(whole=False), "config": config},
        {"path": mf.weights_h5(), "config": config},
    ):
        np.testing.assert_array_equal(fastbilstm.load(**options).predict(mf.IDS), expected)


def test_weights_only_needs_config(refused):
    refused(mf.h5(whole=False), "holds weights and no architecture; give .* config=", "weights.h5")


def test_version_of_weights_h5_is_not_guessed(refused):
    refused(mf.weights_h5(), "keras_version", "model.weights.h5", config=mf.sequential())


@pytest.mark.parametrize("version", ["0.3.3", "4.0.0", "", "latest", "3" * 5000, "-1.0"])
def test_unknown_keras_version(version, refused):
    refused(mf.h5(version=version), "keras_version")


def test_keras_0(refused):
    def edit(file):
        file.attrs["nb_layers"] = 1
        file["layer_0/param_0"] = np.zeros((2, 2))

    refused(mf.h5(whole=False, edit=edit), "Keras 0.x, which is not supported")
