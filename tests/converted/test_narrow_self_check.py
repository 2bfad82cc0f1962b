"""The self-check of int8 weights: it passes with errors as int8 kernels make them, and finds a kernel that is wrong."""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm.converted import self_check
from fastbilstm.engine import compiling
from fastbilstm.tolerances import compare


def swapped_gates(kernel):
    parts = np.split(kernel, 4, axis=1)
    return np.concatenate([parts[1], parts[0], *parts[2:]], axis=1)


WRONG = {
    "gates swapped": swapped_gates,
    "scaled": lambda kernel: kernel * np.float32(1.25),
    "of another unit": lambda kernel: kernel[:, ::-1],
    "without its last row": lambda kernel: (
        kernel * (np.arange(len(kernel)) < len(kernel) - 1)[:, None].astype(np.float32)
    ),
}


def with_rounded_inputs(plan):
    """The specification as int8 kernels run it: states at 127 steps, other inputs at 127 steps of a row's largest."""

    def rows(x):
        scale = np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-30) / 127
        return np.rint(x / scale) * scale

    def rounding(step):
        return lambda x, states: step(rows(x), (np.rint(states[0] * 127) / 127, *states[1:]))

    def before(product):
        return lambda x, **given: product(rows(x), **given)

    for layer in compiling.layers_of(plan.network):
        if layer.class_name == "LSTM":
            layer.step = rounding(layer.step)
        elif layer.class_name == "Dense":
            layer.product = before(layer.product)
    return plan


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("role", ["kernel", "recurrent_kernel"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_kernel_is_found(seed, role, wrong, tmp_path):
    """In the arrays of a file; and where these are right and what runs is wrong, beside errors as int8 makes them."""
    rng = np.random.default_rng(seed)
    shapes = {"lstm": mf.lstm_weights(8, 32), "dense": {"kernel": (32, 4), "bias": (4,)}}
    arrays = {n: {r: rng.normal(0, 0.3, s).astype(np.float32) for r, s in of.items()} for n, of in shapes.items()}
    config = mf.sequential(
        mf.input_layer("x", (None, 30, 8), "float32"), mf.lstm(units=32), mf.dense(units=4, activation="softmax")
    )
    model = fastbilstm.convert(mf.h5(config, arrays), tmp_path / "net.fbl", weights="int8")
    spec = compiling.compile(model.graph, model._tensors, "float64", "numpy")
    inputs = [rng.normal(size=(64, 30, 8)).astype(np.float32)]
    exact = spec.run(inputs, {})
    error = max(compare(y, k).max_rel for y, k in zip(with_rounded_inputs(spec).run(inputs, {}), exact))
    assert 1e-4 < error < 0.03
    vector = model.vector.replace(quantized=(max(error, *model.vector.quantized),))
    assert self_check.check(model, vector).ok

    name = f"lstm/{role}"
    tensors = {**model._tensors, name: np.ascontiguousarray(WRONG[wrong](model._tensors[name]))}
    spoiled = fastbilstm.Model(model.graph, tensors, weights="int8")
    assert not self_check.check(spoiled, vector).ok
    if model.backend == "vector":
        model._plan = spoiled._plan
        assert not self_check.check(model, vector).ok


def test_one_wrong_code_is_found(tmp_path):
    narrow = fastbilstm.convert(mf.h5(), tmp_path / "net.fbl", weights="int8")
    for name, array in narrow._tensors.items():
        wrong = np.array(array)
        wrong.flat[np.abs(wrong).argmax()] *= -1
        spoiled = fastbilstm.Model(narrow.graph, {**narrow._tensors, name: wrong}, weights="int8")
        assert not self_check.check(spoiled, narrow.vector).ok, name
