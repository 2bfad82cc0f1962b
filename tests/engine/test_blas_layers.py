"""The BLAS backend's `lstm`, `dense` and their matrix product against the specification in float64, and wrong calls."""

import itertools
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from spoiled import WAYS, misaligned

from fastbilstm import activations
from fastbilstm.layers import core, recurrent
from fastbilstm.tolerances import compare

pytest.importorskip("scipy", reason="the BLAS backend needs SciPy")
pytest.importorskip("threadpoolctl", reason="the BLAS backend needs threadpoolctl")
compiled = pytest.importorskip("fastbilstm._recurrent", reason="needs the compiled module")
from fastbilstm.engine import blas_layers as blas  # noqa: E402

DTYPES = [np.float32, np.float64]
LINEAR = (0, (0.0, 0.0, 0.0))


def normal(shape, dtype, seed=0, scale=1.0):
    return (scale * np.random.default_rng([seed, *shape]).standard_normal(shape)).astype(dtype)


def assert_agree(y, k, dtype):
    assert y.dtype == dtype and y.flags.c_contiguous
    result = compare(y, k, np.dtype(dtype).name)
    assert result.ok, result.message


def widen(arrays):
    return {name: a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype != bool else a for name, a in arrays}


# ---- lstm ------------------------------------------------------------------------------------------------------------


def lstm_case(dtype, batch=3, timesteps=5, features=7, units=4):
    return {
        "x": normal((batch, timesteps, features), dtype),
        "kernel": normal((features, 4 * units), dtype, scale=0.5),
        "recurrent_kernel": normal((units, 4 * units), dtype, scale=0.5),
        "bias": normal((4 * units,), dtype),
    }


def check_lstm(case, dtype):
    """All four results by blas.lstm and by the specification in float64."""
    with np.errstate(all="ignore"):
        wide = {name: value for name, value in widen(case.items()).items() if name != "initial_state"}
        if "initial_state" in case:
            wide["initial_state"] = tuple(state.astype(np.float64) for state in case["initial_state"])
        expected = recurrent.lstm(**wide)
    for y, k in zip(blas.lstm(**case), expected, strict=True):
        assert_agree(y, k, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked_output", ["previous", "zero", "state"])
@pytest.mark.parametrize("masked, backwards, states, bias", [*itertools.product([False, True], repeat=4)])
def test_lstm_options(masked, backwards, states, bias, masked_output, dtype):
    case = lstm_case(dtype) | {"masked_output": masked_output}
    if masked:
        case["mask"] = np.array([[1, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0] * 5], bool)
    if states:
        case["initial_state"] = (normal((3, 4), dtype, 1), normal((3, 4), dtype, 2))
    if not bias:
        case["bias"] = None
    if backwards:
        case["x"] = case["x"][:, ::-1]
        case["mask"] = case["mask"][:, ::-1] if masked else None
    check_lstm(case, dtype)


@pytest.mark.parametrize("name", [f.__name__ for f in activations.KERNEL_CODES])
def test_lstm_runs_every_activation_itself(name, monkeypatch):
    """Their values are in test_lstm_loop.py and test_activations.py."""
    monkeypatch.setattr(recurrent, "lstm", None)
    function = getattr(activations, name)
    case = lstm_case(np.float64) | {"activation": function, "recurrent_activation": function}
    assert blas.lstm(**case)[0].shape == (3, 5, 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_over_the_batch(dtype):
    check_lstm(lstm_case(dtype) | {"recurrent_activation": partial(activations.softmax, axis=0)}, dtype)


@pytest.mark.parametrize("batch, timesteps", [(1, 1), (1, 6), (0, 4), (2, 1)])
def test_lstm_small(batch, timesteps):
    case = lstm_case(np.float32, batch, timesteps)
    check_lstm(case, np.float32)
    check_lstm(case | {"x": case["x"][:, ::-1]}, np.float32)


@pytest.mark.parametrize("change", [np.asfortranarray, misaligned, lambda a: np.repeat(a, 2, axis=0)[::2]])
@pytest.mark.parametrize("name", ["x", "kernel", "recurrent_kernel", "bias"])
def test_lstm_takes_any_layout(name, change):
    case = lstm_case(np.float64)
    check_lstm(case | {name: change(case[name])}, np.float64)


def test_lstm_does_not_write_its_arguments():
    case = lstm_case(np.float32) | {"initial_state": (normal((3, 4), np.float32), normal((3, 4), np.float32))}
    arrays = [a for v in case.values() for a in (v if isinstance(v, tuple) else (v,))]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    blas.lstm(**case)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- dense -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (4, 5), (3, 7, 5), (2, 3, 4, 5), (0, 5), (2, 0, 5)])
@pytest.mark.parametrize("units", [1, 3, 17])
def test_dense(units, shape, bias, dtype):
    x, kernel, bias = normal(shape, dtype), normal((5, units), dtype), normal((units,), dtype) if bias else None
    expected = core.dense(**widen({"x": x, "kernel": kernel, "bias": bias}.items()))
    assert_agree(blas.dense(x, kernel, bias), expected, dtype)


DENSE_ACTIVATIONS = {
    **{f.__name__: f for f in activations.KERNEL_CODES},
    "glu": activations.glu,
    "glu over time": partial(activations.glu, axis=1),
    "softmax over time": partial(activations.softmax, axis=1),
    "relu, options": partial(activations.relu, max_value=1.0, negative_slope=0.5, threshold=0.25),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DENSE_ACTIVATIONS)
def test_dense_activations(name, dtype):
    arrays = {"x": normal((3, 4, 5), dtype, 3), "kernel": normal((5, 6), dtype, 4), "bias": normal((6,), dtype, 5)}
    function = DENSE_ACTIVATIONS[name]
    expected = core.dense(**widen(arrays.items()), activation=function)
    y = np.ascontiguousarray(blas.dense(**arrays, activation=activations.Activation("given", function)))
    assert_agree(y, expected, dtype)


def test_dense_of_other_layouts_and_read_only():
    x, kernel = normal((4, 6, 5), np.float32), normal((5, 3), np.float32)
    for view in (x[:, ::-1], x.transpose(1, 0, 2), misaligned(x), np.asfortranarray(x)):
        view.flags.writeable = False
        assert_agree(blas.dense(view, np.asfortranarray(kernel)), view.astype(float) @ kernel.astype(float), np.float32)


# ---- the product and activate: wrong calls ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, inner, columns", [*itertools.product((1, 2, 33), (1, 5, 64), (1, 3, 65))])
def test_matmul(rows, inner, columns, dtype):
    a, b, bias = normal((rows, inner), dtype), normal((inner, columns), dtype), normal((columns,), dtype)
    for given in (bias, None):
        out = np.full((rows, columns), np.nan, dtype)
        assert compiled.matmul(a, b, given, out) is None
        assert_agree(out, a.astype(float) @ b.astype(float) + (0 if given is None else given), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows, inner, columns", [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_matmul_of_nothing(rows, inner, columns, dtype):
    out, bias = np.full((rows, columns), np.nan, dtype), np.arange(columns, dtype=dtype)
    compiled.matmul(np.zeros((rows, inner), dtype), np.zeros((inner, columns), dtype), bias, out)
    np.testing.assert_array_equal(out, np.broadcast_to(bias, (rows, columns)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rows, columns", [(1, 3), (3, 1), (2, 3)])
def test_matmul_passes_nan_and_inf_on(rows, columns, value, dtype):
    """BLAS may skip a factor of zero; here it may not."""
    a, b, out = np.zeros((rows, 2), dtype), np.ones((2, columns), dtype), np.empty((rows, columns), dtype)
    b[1, 0] = value
    compiled.matmul(a, b, None, out)
    assert np.isnan(out[:, 0]).all() and (out[:, 1:] == 0).all()


SPOILED = {how: WAYS[how] for how in WAYS if how not in ("unsigned", "one row less", "one column more", "no axes")}


# A bias of None means none; one axis has one order.
WRONG = {*itertools.product(("a", "b", "bias", "out"), SPOILED)} - {("bias", "none"), ("bias", "Fortran order")}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, how", sorted(WRONG))
def test_matmul_wrong_array(name, how, dtype):
    case = {"a": normal((3, 4), dtype), "b": normal((4, 5), dtype), "bias": normal((5,), dtype)}
    case["out"] = np.full((3, 5), 7, dtype)
    before = case["out"].copy()
    # Where a is taken at its word, the next array is the wrong one; b's columns are those of bias and out.
    blamed = {"a": "a|b|out", "b": "b|bias"}.get(name, name)
    with pytest.raises(ValueError, match=rf"matmul: ({blamed}) must be a.* array .* got "):
        compiled.matmul(*(case | {name: SPOILED[how](case[name])}).values())
    np.testing.assert_array_equal(case["out"], before)


def test_matmul_refuses_a_read_only_target_and_shared_memory():
    buffer = normal((64,), np.float32)
    a, b, bias, out = buffer[:4].reshape(2, 2), normal((2, 2), np.float32), normal((2,), np.float32), buffer[2:6]
    with pytest.raises(ValueError, match="matmul: out and a share memory"):
        compiled.matmul(a, b, bias, out.reshape(2, 2))
    with pytest.raises(ValueError, match="matmul: out and b share memory"):
        compiled.matmul(a, b, bias, b)
    with pytest.raises(ValueError, match="matmul: out and bias share memory"):
        compiled.matmul(b, b, buffer[3:5], buffer[:4].reshape(2, 2))
    out = np.zeros((2, 2), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="matmul: out must be a C-contiguous writable .* read-only"):
        compiled.matmul(a, b, bias, out)


@pytest.mark.parametrize("m, k, n", [(2**31, 0, 0), (0, 2**31, 0), (0, 0, 2**31), (0, 2**60, 0)])
def test_matmul_too_large_for_blas(m, k, n):
    a, b, out = np.empty((m, k), np.float32), np.empty((k, n), np.float32), np.empty((m, n), np.float32)
    with pytest.raises(ValueError, match=r"matmul: .* is too large: BLAS counts"):
        compiled.matmul(a, b, None, out)


@pytest.mark.parametrize(
    "how", [how for how in SPOILED if how not in ("other dtype", "one row more", "one column less")]
)
def test_activate_wrong_array(how):
    with pytest.raises(ValueError, match=r"activate: x must be a.* array .* got "):
        compiled.activate(SPOILED[how](normal((3, 4), np.float32)), LINEAR)


@pytest.mark.parametrize("activation", [None, 1, (1,), (1, 2), (1, (1, 2)), ("1", (0, 0, 0)), (31, (0, 0, 0))])
def test_activate_wrong_code(activation):
    x = normal((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"activate: activation (must be \(code|has code 31, the codes are 0 to 30)"):
        compiled.activate(x, activation)
    np.testing.assert_array_equal(x, normal((3, 4), np.float32))


def test_activate_of_nothing():
    for shape in ((0, 3), (3, 0)):
        compiled.activate(np.empty(shape, np.float32), (20, (0.0, 0.0, 0.0)))


def test_instruction_sets():
    assert compiled.isas()[-1] == "base"
    with pytest.raises(ValueError, match=r"instruction set 'mmx' \(FASTBILSTM_ISA\); expected one of .*base"):
        compiled.use("mmx")


def test_blas_threads_are_as_before_after_a_call():
    def counts():
        return [info["num_threads"] for info in blas._pools.info()]

    before = counts()
    with blas._pools.limit(limits=2):
        inside = counts()
        blas.lstm(**lstm_case(np.float32))
        blas.dense(np.ones((2, 3)), np.ones((3, 2)))
        assert counts() == inside
    assert counts() == before


OTHER_SCIPY = """
from scipy.linalg import cython_blas
functions = cython_blas.__pyx_capi__
functions["dgemm"] = {replacement}
try:
    import fastbilstm._recurrent
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("replacement", ["functions['sgemm']", "None"])
def test_scipy_with_other_functions(replacement):
    """A function of another kind is not called: the arguments are in its name."""
    done = subprocess.run([sys.executable, "-c", OTHER_SCIPY.format(replacement=replacement)], stdout=subprocess.PIPE)
    message = done.stdout.decode()
    assert message.startswith("backend blas: scipy.linalg.cython_blas of SciPy 1."), message
    assert "has no function dgemm of the kind that fastbilstm calls; install another SciPy" in message
