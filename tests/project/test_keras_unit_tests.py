"""A part of Keras' own unit tests of layers, done again in fastbilstm: tools/keras_unit_tests.py runs all of them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import TOOLS
from scripts import load_script

import fastbilstm

TOOL = TOOLS / "keras_unit_tests.py"
TESTS = """
    lstm_test/* gru_test/test_c* gru_test/test_mask* simple_rnn_test/test_c* simple_rnn_test/test_mask*
    bidirectional_test/* time_distributed_test/* masking_test/* embedding_test/test_c* embedding_test/test_mask*
    softmax_test/* layer_normalization_test/*
""".split()
# Layer classes, and the fewest calls that must pass.
PASSED = {
    "LSTM": 6,
    "GRU": 1,
    "SimpleRNN": 1,
    "Bidirectional": 6,
    "TimeDistributed": 1,
    "Masking": 2,
    "Embedding": 1,
    "Softmax": 4,
    "LayerNormalization": 4,
}


def need_keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keras = pytest.importorskip("keras", reason="needs keras 3 and TensorFlow")
    if not keras.__version__.startswith("3") or keras.backend.backend() != "tensorflow":
        pytest.skip("needs keras 3 on TensorFlow")
    module = load_script(TOOL)
    if not module.test_files(keras):
        pytest.skip("the installed keras comes without its tests")
    return module


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the tool found; in a process of its own, because Keras' tests use marks that pytest refuses here."""
    need_keras()
    target = tmp_path_factory.mktemp("units") / "found.json"
    command = [sys.executable, TOOL, "--only", ",".join(TESTS), "--json", target]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert target.exists(), process.stderr[-2000:]
    return json.loads(target.read_text())


def test_nothing_in_keras_own_tests_fails(found):
    assert found["failures"] == []


@pytest.mark.parametrize("name", PASSED)
def test_calls_of_keras_own_tests_pass(name, found):
    counts = found["classes"][name]
    assert counts["passed"] >= PASSED[name] and not counts["unread"], found["reasons"]


def test_another_number_is_found(monkeypatch):
    """The comparison can fail."""
    tool = need_keras()
    load = fastbilstm.load

    def load_and_err(path, dtype=None):
        model = load(path, dtype=dtype)
        return lambda x: np.asarray(model(x)) * 1.1

    monkeypatch.setattr(fastbilstm, "load", load_and_err)
    assert tool.run(only=["masking_test/*"]).failures
