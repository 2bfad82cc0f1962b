"""Results of a prediction belong to the caller: writable, owned, and untouched by what the model does afterwards.

Every kind of layer gives a result, in the middle of a net and at its end; models without layers give their input.
"""

import numpy as np
import pytest
from built_nets import ROWS, Net, as_list, check

import fastbilstm

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)


def intermediate():
    """Every kind of layer with a kernel, and each result an output of the model."""
    net = Net(ids=True)
    e = net.embedding(mask_zero=True)
    for mode in ("concat", "sum", "mul", "ave", None):
        net.bidirectional(f"bi_{mode}", e, merge_mode=mode, return_sequences=True)
    net.lstm("r", "bi_sum", 3, return_sequences=True, return_state=True)
    net.lstm("last", "r", 3, return_state=True)
    net.add("Attention", "attention", "bi_sum", "bi_sum", use_scale=False, score_mode="dot")
    net.add("GlobalAveragePooling1D", "pooled", "bi_concat")
    net.add("GlobalMaxPooling1D", "highest", "bi_ave")
    net.dense("d", "pooled", 6, activation="softmax")
    net.add("Activation", "activated", "d", activation="tanh")
    net.add("Reshape", "reshaped", "d", target_shape=[2, 2])
    net.add("Dropout", "dropped", "reshaped", rate=0.5)
    names = [layer["name"] for layer in net.layers if layer["name"] not in ("x", "bi_None")]
    return net, [*names, ("r", 0, 1), ("r", 0, 2), ("last", 0, 1), ("last", 0, 2), ("bi_None", 0, 0), ("bi_None", 0, 1)]


def test_intermediate_results():
    net, outputs = intermediate()
    check(net, *outputs)


def own_results(model, x, *others):
    """Results are writable and owned, share no memory with each other, the input or the model."""
    given = x.copy()
    first = as_list(model.predict(x, batch_size=len(x)))
    kept = [y.copy() for y in first]
    for other in others:
        model.predict(other, batch_size=len(other))
    for number, (y, k) in enumerate(zip(first, kept)):
        assert y.flags.writeable and y.flags.c_contiguous, number
        np.testing.assert_array_equal(y, k, str(number))
        assert not np.may_share_memory(y, x), number
        assert not any(np.shares_memory(y, other) for other in first[:number]), number
        y[...] = -1 if y.dtype.kind == "i" else np.nan
    np.testing.assert_array_equal(x, given)
    model.reset_states()
    for y, k in zip(as_list(model.predict(x, batch_size=len(x))), kept):
        np.testing.assert_array_equal(y, k)


def test_results_do_not_change_afterwards():
    net, outputs = intermediate()
    own_results(fastbilstm.load(net.content(*outputs)), net.input(), net.input(seed=1), net.input(40, 2))


def test_results_of_a_model_without_layers():
    for net in (Net(), Net(ids=True)):
        net.add("Dropout", "dropout", "x", rate=0.5)
        for outputs in (["x"], ["dropout"], ["x", "dropout"]):
            own_results(check(net, *outputs), net.input(), net.input(seed=1))


def test_results_that_are_remembered_states():
    """Who writes into a state that a stateful layer returned does not change what it remembers."""
    net = Net(batch=ROWS)
    net.lstm("r", "x", stateful=True, return_state=True, return_sequences=True)
    content, x = net.content(("r", 0, 0), ("r", 0, 1), ("r", 0, 2)), net.input()
    model, same = fastbilstm.load(content), fastbilstm.load(content)
    for y in model.predict(x):
        y[...] = np.nan
    same.predict(x)
    for y, k in zip(model.predict(x), same.predict(x)):
        np.testing.assert_array_equal(y, k)
