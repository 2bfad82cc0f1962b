"""The compiled LSTM loop against the specification in float64, and every way to call it wrongly.

Sizes are odd and unequal, states and biases nonzero, so that no two dimensions or arrays can be swapped unnoticed.
"""

import itertools
import sys
import threading

import numpy as np
import pytest
from kernel_cases import ACTIVATIONS, FUNCTIONS
from spoiled import WAYS, read_only

from fastbilstm import activations
from fastbilstm.layers.recurrent import lstm
from fastbilstm.tolerances import compare

pytest.importorskip("scipy", reason="the compiled loop needs SciPy")
compiled = pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")

MASKED_OUTPUTS = {0: "previous", 1: "zero", 2: "state"}
DTYPES = [np.float32, np.float64]
FLOATS = ("x_proj", "recurrent_kernel", "h", "c", "outputs", "last_output")


@pytest.fixture(params=compiled.isas())
def isa(request):
    compiled.use(request.param)
    yield request.param
    compiled.use(compiled.isas()[0])


def make_case(batch, timesteps, units, dtype, seed=0):
    """Arguments of `lstm_loop` by name: no mask, outputs wanted, tanh and sigmoid, forwards."""
    rng = np.random.default_rng([seed, batch, timesteps, units])

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(dtype)

    return {
        "x_proj": normal(batch, timesteps, 4 * units),
        "recurrent_kernel": normal(units, 4 * units, scale=0.5 / np.sqrt(units)),
        "h": normal(batch, units, scale=0.5),
        "c": normal(batch, units, scale=0.5),
        "mask": None,
        "outputs": np.full((batch, timesteps, units), np.nan, dtype),
        "last_output": np.full((batch, units), np.nan, dtype),
        "activation": activations.tanh,
        "recurrent_activation": activations.sigmoid,
        "masked_output": 0,
        "reverse": False,
    }


def call(case):
    """Call the loop; an activation may be given as a function."""
    return compiled.lstm_loop(
        *(activations.kernel_code(value) if callable(value) else value for value in case.values())
    )


def run(case):
    """Call the loop with a copy of the states; outputs, last output, h, c."""
    case = {**case, "h": case["h"].copy(), "c": case["c"].copy()}
    assert call(case) is None
    return case["outputs"], case["last_output"], case["h"], case["c"]


def specify(case, dtype=np.float64, x=None, kernel=None):
    """The same four arrays by the specification; the projection is the identity unless x and kernel are given."""
    x = case["x_proj"] if x is None else x
    kernel = np.eye(x.shape[2]) if kernel is None else kernel
    mask = None if case["mask"] is None else case["mask"].astype(bool)
    if case["reverse"]:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    with np.errstate(all="ignore"):
        return lstm(
            x.astype(dtype),
            kernel.astype(dtype),
            case["recurrent_kernel"].astype(dtype),
            mask=mask,
            initial_state=(case["h"].astype(dtype), case["c"].astype(dtype)),
            activation=case["activation"],
            recurrent_activation=case["recurrent_activation"],
            masked_output=MASKED_OUTPUTS[case["masked_output"]],
        )


def assert_agree(got, expected, dtype):
    for name, y, k in zip(("outputs", "last_output", "h", "c"), got, expected, strict=True):
        if y is not None:
            assert y.dtype == dtype
            result = compare(y, k, np.dtype(dtype).name)
            assert result.ok, f"{name}: {result.message}"


def make_mask(kind, batch, timesteps):
    """Rows of unequal lengths, so that no row can stand for another."""
    lengths = 1 + np.arange(batch) % timesteps
    steps = np.arange(timesteps)
    if kind == "post":
        kept = steps < lengths[:, None]
    elif kind == "pre":
        kept = steps >= timesteps - lengths[:, None]
    elif kind == "holes":
        kept = np.random.default_rng(batch).random((batch, timesteps)) < 0.6
    else:
        kept = np.zeros((batch, timesteps), bool)
        kept[1::2] = kind == "every other row"
    return kept.astype(np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 3, 8, 17, 65])
@pytest.mark.parametrize("batch", [1, 2, 5, 33])
@pytest.mark.parametrize("timesteps", [1, 2, 7])
def test_sizes(batch, timesteps, units, dtype, isa):
    case = make_case(batch, timesteps, units, dtype)
    assert_agree(run(case), specify(case), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", ["activation", "recurrent_activation", "both"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, use, dtype, isa):
    """Functions over a row, too: softmax sees the units of one gate in one row of the batch."""
    case = make_case(3, 2, 5, dtype, seed=1)
    for option in ("activation", "recurrent_activation") if use == "both" else (use,):
        case[option] = ACTIVATIONS[name]
    if name == "exponential":
        case["x_proj"] -= 2  # exponential of exponential stays within float32
    elif name == "tanh_shrink":
        case["x_proj"] *= 4  # near zero the difference has no digits left in float32
    assert_agree(run(case), specify(case), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked_output", MASKED_OUTPUTS)
@pytest.mark.parametrize("kind", ["post", "pre", "holes", "none kept", "every other row"])
def test_masks(kind, masked_output, reverse, dtype):
    case = make_case(6, 5, 3, dtype) | {"masked_output": masked_output, "reverse": reverse}
    case["mask"] = make_mask(kind, 6, 5)
    assert_agree(run(case), specify(case), dtype)
    assert_agree(run(case | {"outputs": None}), specify(case), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_fully_masked_row(dtype):
    """Not by the specification but by Keras' rule: the states stay, the output is zero, or the state in old Keras."""
    case = make_case(2, 4, 3, dtype) | {"mask": np.zeros((2, 4), np.uint8)}
    for masked_output, emitted in ((0, 0 * case["h"]), (1, 0 * case["h"]), (2, case["h"])):
        outputs, last, h, c = run(case | {"masked_output": masked_output})
        np.testing.assert_array_equal(outputs, np.repeat(emitted[:, None], 4, axis=1))
        np.testing.assert_array_equal(last, emitted)
        np.testing.assert_array_equal(h, case["h"])
        np.testing.assert_array_equal(c, case["c"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_nonzero_mask_value_keeps(dtype):
    case = make_case(2, 3, 3, dtype) | {"mask": np.array([[1, 0, 255], [2, 128, 0]], np.uint8)}
    assert_agree(run(case), specify(case), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True])
def test_inputs_are_not_written(reverse, dtype):
    case = make_case(3, 4, 5, dtype) | {"mask": make_mask("holes", 3, 4), "reverse": reverse}
    before = {name: case[name].copy() for name in ("x_proj", "recurrent_kernel", "mask")}
    for name in before:
        case[name].flags.writeable = False
    run(case)
    for name, array in before.items():
        np.testing.assert_array_equal(case[name], array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_pass_through(value, name, dtype):
    """One bad input, gate by gate, in one row: NaN and inf where NumPy has them, and only there."""
    rng = np.random.default_rng(len(name))
    for gate, recurrent in itertools.product(range(4), (activations.sigmoid, activations.relu, FUNCTIONS[name])):
        case = make_case(2, 2, 3, dtype) | {"activation": FUNCTIONS[name], "recurrent_activation": recurrent}
        x = rng.standard_normal((2, 2, 1)).astype(dtype)
        kernel = rng.standard_normal((1, 12)).astype(dtype)
        kernel[0, 3 * gate] = value
        x[1] = np.abs(x[1])
        with np.errstate(all="ignore"):
            case["x_proj"] = np.ascontiguousarray(x @ kernel)
            expected = specify(case, dtype, x, kernel)
        for y, k in zip(run(case), expected, strict=True):
            np.testing.assert_array_equal(np.where(np.isfinite(y), 0, y), np.where(np.isfinite(k), 0, k))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["h", "c", "recurrent_kernel"])
def test_nan_in_states_and_weights(name, batch, dtype):
    case = make_case(batch, 2, 3, dtype)
    case[name][0, 1] = np.nan
    assert_agree(run(case), specify(case, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bad_values_at_masked_steps_are_not_read(dtype):
    case = make_case(2, 3, 3, dtype) | {"mask": np.array([[1, 1, 1], [1, 0, 1]], np.uint8)}
    expected = [y.copy() for y in run(case)]
    case["x_proj"][1, 1] = np.nan
    for y, k in zip(run(case), expected, strict=True):
        np.testing.assert_array_equal(y, k)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch, units", [(0, 3), (2, 0), (0, 0)])
def test_empty(batch, units, dtype):
    case = make_case(2, 2, 3, dtype)
    shapes = {"x_proj": (batch, 2, 4 * units), "recurrent_kernel": (units, 4 * units), "outputs": (batch, 2, units)}
    for name in FLOATS:
        case[name] = np.zeros(shapes.get(name, (batch, units)), dtype)
    outputs, last, h, c = run(case)
    assert outputs.shape == shapes["outputs"] and last.shape == h.shape == c.shape == (batch, units)
    with pytest.raises(ValueError, match="lstm_loop: h must be a"):
        call(case | {"h": np.zeros((batch + 1, units), dtype)})


SPOILED = {how: WAYS[how] for how in WAYS if how not in ("unsigned", "one row less", "one column more", "no axes")}
# A mask or outputs of None mean something; uint8 has no byte order and no alignment.
WRONG = [
    *((name, how) for name in FLOATS for how in SPOILED if (name, how) != ("outputs", "none")),
    *(("mask", how) for how in SPOILED if how not in ("none", "byte order", "misaligned")),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, how", WRONG)
def test_wrong_array(name, how, dtype):
    case = make_case(3, 4, 2, dtype) | {"mask": make_mask("holes", 3, 4)}
    written = {name: case[name].copy() for name in ("h", "c", "outputs", "last_output")}
    # An x_proj of one row more, or of the other dtype, is taken at its word: then the next array is the wrong one.
    blamed = "recurrent_kernel|h" if name == "x_proj" and how in ("one row more", "other dtype") else name
    with pytest.raises(ValueError, match=rf"lstm_loop: ({blamed}) must be a .* got "):
        call(case | {name: SPOILED[how](case[name])})
    for name, array in written.items():
        np.testing.assert_array_equal(case[name], array)


@pytest.mark.parametrize("name", ["h", "c", "outputs", "last_output"])
def test_read_only_target(name):
    case = make_case(3, 4, 2, np.float32)
    with pytest.raises(ValueError, match=rf"lstm_loop: {name} must be a C-contiguous writable .* read-only"):
        call(case | {name: read_only(case[name])})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "first, second",
    [("h", "c"), ("h", "last_output"), ("c", "last_output"), ("last_output", "outputs"), ("h", "outputs")],
)
def test_shared_memory(first, second, dtype):
    case = make_case(2, 1, 3, dtype)
    with pytest.raises(ValueError, match=rf"lstm_loop: {first} and {second} share memory"):
        call(case | {second: case[first].reshape(case[second].shape)})


@pytest.mark.parametrize("name, other", [("outputs", "x_proj"), ("h", "recurrent_kernel"), ("last_output", "mask")])
def test_target_inside_an_input(name, other):
    case = make_case(2, 8, 2, np.float32) | {"mask": make_mask("holes", 2, 8)}
    buffer = np.zeros(max(case[name].nbytes, case[other].nbytes) + 16, np.uint8)
    for key in (name, other):
        case[key] = buffer[: case[key].nbytes].view(case[key].dtype).reshape(case[key].shape)
    with pytest.raises(ValueError, match=rf"lstm_loop: {name} and {other} share memory"):
        call(case)


@pytest.mark.parametrize("shape", [(2, 0, 8), (0, 0, 8), (2, 0, 0)])
def test_no_timesteps(shape):
    case = make_case(2, 1, 2, np.float32) | {"x_proj": np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match="lstm_loop: x_proj has no timesteps"):
        call(case)


@pytest.mark.parametrize("shape", [(0, 1, 2**31), (2**31, 1, 0), (0, 1, 2**60)])
def test_too_large_for_blas(shape):
    """Arrays without elements may have axes that a C int cannot count."""
    case = make_case(2, 1, 2, np.float32) | {"x_proj": np.empty(shape, np.float32)}
    with pytest.raises(ValueError, match=r"lstm_loop: x_proj .* is too large: BLAS counts"):
        call(case)


@pytest.mark.parametrize("width", [1, 6, 7])
def test_width_is_not_four_gates(width):
    case = make_case(2, 1, 2, np.float32) | {"x_proj": np.zeros((2, 1, width), np.float32)}
    with pytest.raises(ValueError, match=r"lstm_loop: x_proj must be a .* \(B, T, 4U\)"):
        call(case)


@pytest.mark.parametrize("name", ["activation", "recurrent_activation"])
@pytest.mark.parametrize("code", [-1, 31, 2**31 - 1, 2**70])
def test_unknown_code(name, code):
    case = make_case(2, 1, 2, np.float32) | {name: (code, (0, 0, 0))}
    with pytest.raises(ValueError, match=rf"lstm_loop: {name} has code {code}, the codes are 0 to 30"):
        call(case)


@pytest.mark.parametrize("value", [1, None, (1,), (1, 0.0), (1, (0.0, 0.0)), (1, ("", 0, 0)), (1.0, (0, 0, 0)), "tanh"])
def test_wrong_activation(value):
    case = make_case(2, 1, 2, np.float32) | {"activation": value}
    with pytest.raises(ValueError, match=r"lstm_loop: activation must be \(code, \(p0, p1, p2\)\), got "):
        call(case)


@pytest.mark.parametrize("code", [-1, 3])
def test_unknown_masked_output(code):
    case = make_case(2, 1, 2, np.float32) | {"masked_output": code}
    with pytest.raises(ValueError, match=rf"lstm_loop: masked_output is {code}, the codes are 0 to 2"):
        call(case)


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL")
def test_other_threads_run_meanwhile():
    """The GIL is released: were it held, this thread could not count while the loop runs."""
    case = make_case(4, 4000, 64, np.float64)
    started, finished = threading.Event(), threading.Event()

    def work():
        started.set()
        run(case)
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    rounds = 0
    while not finished.wait(0.001):
        rounds += 1
    thread.join()
    assert rounds > 5
