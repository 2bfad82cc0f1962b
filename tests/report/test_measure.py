"""What `fastbilstm report` measures: the share of each layer, the time of a call."""

import numpy as np
import pytest
from built_nets import Net
from paths import SEQ2SEQ

import fastbilstm
from fastbilstm.engine.backends import vector_problem
from fastbilstm.report import measure as report_measure

needs_kernels = pytest.mark.skipif(vector_problem() is not None, reason="needs the vector kernels")


@needs_kernels
def test_layers_are_timed_where_they_run(tmp_path):
    net = Net(ids=True)
    net.embedding(mask_zero=True)
    net.lstm("lstm", "embedding", units=3, return_sequences=True)
    net.dense("dense", "lstm", size=3)
    net.bn("bn", "dense", size=4)
    net.add("ReLU", "relu", "bn")
    net.bn("second", "relu", size=4)
    net.dense("after", "second", size=4, activation="relu")
    model = fastbilstm.load(net.content("after"), n_threads=1)
    x = net.input()
    before = model.predict(x)
    found = report_measure.speed(model, 0.3)
    shares = {share.path: share for share in found.shares}
    assert list(shares) == [("lstm",), ("dense",), ("after",), (report_measure.BETWEEN,)]
    assert {path: share.together for path, share in shares.items() if share.together} == {
        ("lstm",): ("embedding",),
        ("dense",): ("bn", "relu"),
        ("after",): ("second",),
    }
    assert all(seconds > 0 for share in found.shares for seconds in share.seconds.values())
    # Nothing is left behind in the network that predicts.
    assert not {"run", "call_part"} & set(vars(model._plan.runner))
    np.testing.assert_array_equal(model.predict(x), before)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_times_of_layers_sum_up_to_the_call(backend):
    """A layer that takes far longer than all others has nearly all of the time, at any depth."""
    model = fastbilstm.load(SEQ2SEQ, backend=backend)
    x = report_measure.sample(model, 32, 100)
    found = report_measure._layer_seconds(model, x, 32, 0.1)
    paths = {("encoder", "encoder_lstm"), ("decoder", "decoder_lstm"), ("decoder", "token"), (report_measure.BETWEEN,)}
    assert paths <= set(found) and not {("encoder",), ("decoder",)} & set(found)
    layers = sum(found.values()) - found[report_measure.BETWEEN,]
    assert layers > found[report_measure.BETWEEN,] > 0
