"""Every way to call the vector kernels wrongly: an error, nothing written, never a crash."""

import itertools

import numpy as np
import pytest

from fastbilstm import activations

_kernels = pytest.importorskip("fastbilstm._kernels", reason="needs the compiled module")
if _kernels.isa() is None:
    pytest.skip("this build has no vector kernels", allow_module_level=True)

from kernel_cases import compiled, make_direction, make_input, make_mask, same_bits  # noqa: E402
from spoiled import WAYS, read_only  # noqa: E402

SPOILED = {how: spoil for how, spoil in WAYS.items() if how != "integers"}
# Taken from sizes that another argument says: the name of what is refused then.
FREE = ("one row more", "one row less", "one column more", "one column less")


def refused(call, arguments, name, how, written=()):
    """Spoil one argument; ValueError, and the arrays that a call writes keep their contents."""
    array = arguments[name]
    spoiled = read_only(array) if how == "read-only" else SPOILED[how](array)
    before = {key: arguments[key].copy() for key in written}
    with pytest.raises(ValueError, match="must|share|columns|shape"):
        call(**{**arguments, name: spoiled})
    for key, copy in before.items():
        same_bits(arguments[key], copy)


def cases(arguments, optional=(), written=(), leave=()):
    """(name, how) for every array among the arguments."""
    for name, array in arguments.items():
        if not isinstance(array, np.ndarray):
            continue
        for how in (*SPOILED, *(["read-only"] if name in written else [])):
            if (how == "none" and name in optional) or (name, how) in leave:
                continue
            if array.dtype == np.bool_ and how in ("byte order", "misaligned"):
                continue  # bool has neither
            if array.ndim < 2 and how in ("Fortran order", "no axes"):
                continue
            yield name, how


def test_wrong_arrays_of_attention_and_pooling():
    rng = np.random.default_rng(0)
    scratch = _kernels.Scratch()
    attention = {
        "query": rng.standard_normal((2, 3, 4)).astype(np.float32),
        "value": rng.standard_normal((2, 5, 6)).astype(np.float32),
        "key": rng.standard_normal((2, 5, 4)).astype(np.float32),
        "query_mask": make_mask("holes", 2, 3),
        "value_mask": make_mask("holes", 2, 5),
        "scale": 1.0,
        "pooled": False,
        "out": np.zeros((2, 3, 6), np.float32),
        "scratch": scratch,
    }
    optional = ("query_mask", "value_mask")
    for name, how in cases(attention, optional, ["out"]):
        refused(_kernels.attention, attention, name, how, ["out"])
    pooled = attention | {"pooled": True, "out": np.zeros((2, 6), np.float32)}
    for how in ("one row more", "one column more", "one axis more", "read-only", "misaligned"):
        refused(_kernels.attention, pooled, "out", how, ["out"])
    for name in ("query", "value", "key"):
        shared = np.zeros(200, np.float32)
        arrays = {key: shared[: attention[key].size].reshape(attention[key].shape) for key in (name, "out")}
        with pytest.raises(ValueError, match=f"out and {name} share memory"):
            _kernels.attention(**attention | arrays)
    with pytest.raises(TypeError):
        _kernels.attention(**attention | {"scratch": None})


def test_wrong_arrays_of_fill_and_merge():
    fill = {
        "outputs": np.ones((3, 4, 7), np.float32),
        "mask": make_mask("holes", 3, 4),
        "how": "state",
        "initial": np.ones((3, 5), np.float32),
        "reverse": False,
        "flip": False,
        "offset": 1,
        "units": 5,
    }
    # One column more or less of outputs leaves room for the units, or not: both are checked below.
    leave = [("outputs", "one column more"), ("outputs", "one column less")]
    for name, how in cases(fill, ["initial"], ["outputs"], leave):
        refused(_kernels.fill_masked, fill, name, how, ["outputs"])
    huge = 2**63 - 1
    for offset, units in ((-1, 5), (3, 5), (0, 8), (0, -1), (huge, 5), (1, huge), (huge, huge), (-huge, huge)):
        with pytest.raises(ValueError, match="outputs have 7 columns"):
            _kernels.fill_masked(**fill | {"offset": offset, "units": units, "initial": None})
    for how in ("nothing", "", None):
        with pytest.raises(ValueError, match="how is .*; expected 'zero'"):
            _kernels.fill_masked(**fill | {"how": how})
    with pytest.raises(ValueError, match="outputs and initial share memory"):
        _kernels.fill_masked(**fill | {"initial": fill["outputs"].reshape(-1)[:15].reshape(3, 5)})
    np.testing.assert_array_equal(fill["outputs"], 1)

    merge = {"outputs": np.ones((3, 4), np.float32), "other": np.ones((3, 4), np.float32), "merge": 1}
    # Whatever shape the outputs have, the other array is to have it.
    for name, how in cases(merge, (), ["outputs"]):
        refused(_kernels.merge_outputs, merge, name, how, ["outputs"])
    for code in (0, 4, -1):
        with pytest.raises(ValueError, match="merge is .*; expected one of 1, 2, 3"):
            _kernels.merge_outputs(**merge | {"merge": code})
    with pytest.raises(ValueError, match="outputs and other share memory"):
        _kernels.merge_outputs(merge["outputs"], merge["outputs"], 1)


def test_wrong_arrays_of_a_product():
    rng = np.random.default_rng(0)
    matrix = _kernels.Matrix(rng.standard_normal((4, 5)), rng.standard_normal(5))
    product = {"x": np.ones((3, 4), np.float32), "out": np.ones((3, 5), np.float32)}
    for name, how in cases(product, (), ["out"]):
        refused(matrix.product, product, name, how, ["out"])
    shared = np.zeros(20, np.float32)
    with pytest.raises(ValueError, match="out and x share memory"):
        matrix.product(shared[:12].reshape(3, 4), shared[5:].reshape(3, 5))
    with pytest.raises(TypeError):
        matrix.product(**product, activation=1)
    for kernel in (np.ones(4), np.ones((1, 2, 3)), np.float32(1), np.ones((2, 2), complex), "abc", None, [["a"]]):
        with pytest.raises(ValueError, match="kernel must be an array of numbers"):
            _kernels.Matrix(kernel)
    for bias in (np.ones(4), np.ones(1), np.ones((1, 5)), 1.0, ["a"] * 5):
        with pytest.raises(ValueError, match="bias must be an array of numbers"):
            _kernels.Matrix(np.ones((4, 5)), bias)
    assert (product["out"] == 1).all()


def test_wrong_activations():
    for code in (-1, 31, 2**31, 2**70):
        with pytest.raises(ValueError, match=f"activation code {code}; expected 0 to 30"):
            _kernels.Activation(code)
    for parameters in ((), (0.0,), (0.0,) * 4, (0.0,) * 1000):
        with pytest.raises(ValueError, match=r"parameters; expected 3"):
            _kernels.Activation(1, parameters)
    for arguments in ((1.5,), ("tanh",), (None,), (1, ("a", 0, 0)), (1, None)):
        with pytest.raises(TypeError):
            _kernels.Activation(*arguments)
    for how in ("list", "none", "other dtype", "no axes", "Fortran order", "every other element", "misaligned"):
        refused(compiled(activations.tanh).apply, {"x": np.ones((3, 4), np.float32)}, "x", how, ["x"])
    refused(compiled(activations.tanh).apply, {"x": np.ones((3, 4), np.float32)}, "x", "read-only")


# ---- LSTM -----------------------------------------------------------------------------------------------------------


def test_wrong_weights():
    part = make_direction(1, 3, 5, embeddings=np.ones((7, 3), np.float32))
    spoiled = {
        "kernel": [(3, 19), (3, 21), (20,), (3, 2, 10), (), (20, 3)],
        "recurrent_kernel": [(5, 19), (4, 20), (6, 20), (100,), (), (20, 5), (5, 4, 5)],
        "bias": [(19,), (21,), (1, 20), (), (4, 5), (1,)],
        "embeddings": [(7, 2), (7, 4), (21,), (), (7, 3, 1)],
    }
    for name, shapes in spoiled.items():
        good = getattr(part, name)
        for bad in (*(np.ones(shape, np.float32) for shape in shapes), np.full(good.shape, "a"), "a"):
            setattr(part, name, bad)
            with pytest.raises(ValueError, match="must be an array of numbers of shape"):
                part.packed()
        setattr(part, name, good)
    part.embeddings, part.project = None, True
    with pytest.raises(ValueError, match="no embeddings to project"):
        part.packed()
    part.project, part.joined_kernel = False, np.ones((2, 20), np.float32)
    with pytest.raises(TypeError, match="joined_kernel without embeddings"):
        part.packed()
    part.embeddings, part.joined_kernel = np.ones((7, 3), np.float32), np.ones((2, 19), np.float32)
    with pytest.raises(ValueError, match="joined_kernel must be an array of numbers of shape"):
        part.packed()
    part.embeddings = part.joined_kernel = None
    with pytest.raises(ValueError, match="no embeddings to project"):
        part.packed().project()
    for pair in ((None, compiled(np.tanh)), (compiled(np.tanh), None), (1, 2)):
        with pytest.raises(TypeError):
            _kernels.Recurrent(part.kernel, part.recurrent_kernel, None, *pair)
    part = make_direction(1, 3, 5, cell="gru")
    for bad in (part.recurrent_bias[1:], part.recurrent_bias[None], "a"):
        part.recurrent_bias = bad
        with pytest.raises(ValueError, match="recurrent_bias must be an array of numbers of shape"):
            part.packed()
    for cell, options, error in (
        ("GRU", {}, "cell is 'GRU'; expected one of lstm, gru, simple_rnn"),
        ("lstm", {"recurrent_bias": np.ones(20)}, "with recurrent_bias"),
        ("gru", {"recurrent_bias": np.ones(15), "reset_after": False}, "with recurrent_bias, reset_after=False"),
        ("gru", {"kernel": np.ones((3, 20))}, "recurrent_kernel must be"),
    ):
        given = {"kernel": np.ones((3, 15)), "recurrent_kernel": np.ones((5, 20)), "bias": None} | options
        pair = {"activation": compiled(np.tanh), "recurrent_activation": compiled(np.tanh)}
        with pytest.raises(ValueError, match=error):
            _kernels.Recurrent(**given, **pair, cell=cell)
    with pytest.raises(TypeError, match="cell 'simple_rnn' with recurrent_activation"):
        _kernels.Recurrent(np.ones((3, 5)), np.ones((5, 5)), None, **pair, cell="simple_rnn")


def test_objects_are_whole_from_the_start():
    for kind in (_kernels.Recurrent, _kernels.Matrix, _kernels.Activation, _kernels.Rows):
        with pytest.raises(TypeError):
            kind.__new__(kind)
    assert _kernels.Scratch.__new__(_kernels.Scratch).take((2,)).shape == (2,)


def test_wrong_rows():
    good = make_mask("holes", 3, 4)
    for mask in (good[1:], good[:, 1:], good[0], good[None], good.astype(np.uint8), good.tolist(), "a", np.bool_(True)):
        with pytest.raises(ValueError, match="mask must be"):
            _kernels.Rows(3, 4, mask)
    for sizes in ((-1, 4), (3, -1), (2**62, 4), (2**40, 2**40)):
        with pytest.raises(ValueError, match="negative size|too large"):
            _kernels.Rows(*sizes)
    for view in (np.asfortranarray(good), np.repeat(good, 2, axis=1)[:, ::2]):
        assert _kernels.Rows(3, 4, view).steps == good.sum()
    odd = np.array([[255, 0, 2, 0]], np.uint8).view(np.bool_)  # a bool may hold any byte
    assert _kernels.Rows(1, 4, odd).steps == 2
    assert not _kernels.Rows(3, 4).masked and not _kernels.Rows(3, 4, np.ones((3, 4), bool)).masked


def test_the_last_output_of_rows_that_a_mask_empties():
    h = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    mask = np.array([[True, False, False], [False, False, False], [False, True, True]])
    for zero, reverse, kept in ((False, False, [1, 0, 1]), (True, False, [0, 0, 1]), (True, True, [1, 0, 0])):
        expected = h * np.array(kept, np.float32)[:, np.newaxis]
        np.testing.assert_array_equal(_kernels.last_output(h, mask, zero, reverse), expected)
    for change in ({"mask": mask[:2]}, {"mask": mask.astype(int)}, {"h": h.astype(np.float64)}, {"h": h.T}):
        with pytest.raises(ValueError):
            _kernels.last_output(**({"h": h, "mask": mask} | change), zero=True, reverse=False)


def test_the_mask_of_token_ids():
    for ids in (np.array([[0, 3], [-1, 0]], np.int32), np.array([0.0, 0.6]), np.zeros((0, 2), np.int32)):
        np.testing.assert_array_equal(_kernels.mask_of(ids), ids != 0)


def arguments(**options):
    """A direction for `run_recurrent`, and scratch buffers."""
    part = make_direction(3, 2, 5, **options)
    x = make_input(3, 4, 2) if part.embeddings is None else np.ones((3, 4), np.int32)
    return part.job(x, _kernels.Rows(3, 4), np.ones((3, 4, 7), np.float32), 1), _kernels.Scratch()


def test_wrong_floats_beside_token_ids():
    job, scratch = arguments(embeddings=np.ones((7, 2), np.float32), joined_kernel=np.ones((3, 20), np.float32))
    run = lambda ids, joined: _kernels.run_recurrent([job | {"x": (ids, joined)}], scratch)  # noqa: E731
    given = {"ids": job["x"], "joined": np.ones((3, 4, 3), np.float32)}
    run(**given)
    for name, how in cases(given, ["joined"], []):
        refused(run, given, name, how, [])
    for x in (given["ids"], (given["ids"],), None):
        with pytest.raises(ValueError, match="x must be token ids and the floats beside them"):
            _kernels.run_recurrent([job | {"x": x}], scratch)
    buffer = np.zeros(100, np.float32)
    with pytest.raises(ValueError, match="outputs and joined share memory"):
        _kernels.run_recurrent(
            [job | {"x": (given["ids"], buffer[:36].reshape(3, 4, 3)), "outputs": buffer[10:94].reshape(3, 4, 7)}],
            scratch,
        )


def test_wrong_input_and_outputs():
    job, scratch = arguments()
    run = lambda outputs, x: _kernels.run_recurrent([job | {"outputs": outputs, "x": x}], scratch)  # noqa: E731
    x = job["x"]
    given = {"outputs": job["outputs"], "x": x}
    for name, how in cases(given, ["outputs"], ["outputs"], [("outputs", c) for c in FREE[2:]]):
        refused(run, given, name, how, ["outputs"])
    refused(run, {"outputs": np.ones((3, 4, 5), np.float32), "x": x}, "outputs", "one column less", ["outputs"])
    for offset in (-1, 3, 2**62, -(2**62), 2**70):
        with pytest.raises(ValueError, match="outputs have 7 columns"):
            _kernels.run_recurrent([job | {"offset": offset}], scratch)
    buffer = np.zeros(100, np.float32)
    shared = buffer[10:94].reshape(3, 4, 7), buffer[:24].reshape(3, 4, 2)
    with pytest.raises(ValueError, match="outputs and x share memory"):
        run(*shared)
    for code in (-1, 4, 100):
        with pytest.raises(ValueError, match="merge is .*; expected a value of MERGES"):
            _kernels.run_recurrent([job | {"merge": code}], scratch)
    wrong = ("offset", 1.5), ("merge", None), ("merge", 1.5), ("layer", 3), ("layer", None), ("rows", 1), ("rows", None)
    for name, value in wrong:
        with pytest.raises(TypeError):
            _kernels.run_recurrent([job | {name: value}], scratch)
    for name in job:
        with pytest.raises(KeyError, match=name):
            _kernels.run_recurrent([{key: value for key, value in job.items() if key != name}], scratch)
    np.testing.assert_array_equal(job["outputs"], 1)


def test_one_input_for_all_timesteps():
    """(B, F) is (B, T, F) whose timesteps are equal."""
    job, scratch = arguments()
    x = np.ascontiguousarray(job["x"][:, 0])
    _kernels.run_recurrent([job | {"x": np.repeat(x[:, np.newaxis], 4, axis=1)}], scratch)
    expected = job["outputs"].copy()
    _kernels.run_recurrent([job | {"x": x}], scratch)
    same_bits(job["outputs"], expected)
    for bad in (x[1:], x[:, 1:], x.astype(np.float64)):
        with pytest.raises(ValueError, match="x must be a C-contiguous float32 array of shape .3, 2.,"):
            _kernels.run_recurrent([job | {"x": bad}], scratch)


def test_wrong_states():
    job, scratch = arguments()
    h, c = job["initial_state"]
    for bad in ((h[1:], c), (h, c[1:]), (h[:, 1:], c), (h[:1], c[:1]), (h[0], c[0]), (h, None), (h,), (h, c, c), "ab"):
        with pytest.raises((ValueError, TypeError)):
            _kernels.run_recurrent([job | {"initial_state": bad}], scratch)
    np.testing.assert_array_equal(job["outputs"], 1)
    # Any layout and dtype of floats will do: states are copied.
    expected = _kernels.run_recurrent([job], scratch)[0][0].copy()
    other = np.asfortranarray(h), c.astype(np.float64)
    same_bits(_kernels.run_recurrent([job | {"initial_state": other}], scratch)[0][0], expected)


def test_wrong_ids():
    for project in (False, True):
        job, scratch = arguments(embeddings=np.ones((7, 2), np.float32), project=project)
        ids = job["x"]
        for bad, place in itertools.product((-1, 7, 2**31 - 1, -(2**31)), ((0, 0), (2, 3))):
            spoiled = ids.copy()
            spoiled[place] = bad
            with pytest.raises(ValueError, match="a token id is not in 0 to 6"):
                _kernels.run_recurrent([job | {"x": spoiled}], scratch)
            mask = np.ones((3, 4), bool)
            mask[place] = False
            with pytest.raises(ValueError, match="a token id is not in 0 to 6"):
                _kernels.run_recurrent([job | {"x": spoiled, "rows": _kernels.Rows(3, 4, mask)}], scratch)
        for bad in (ids.astype(np.int64), ids.astype(np.float32), ids.astype(np.uint32), ids[1:], ids[0], ids[None]):
            with pytest.raises(ValueError, match="ids must be a C-contiguous int32 array"):
                _kernels.run_recurrent([job | {"x": bad}], scratch)
        np.testing.assert_array_equal(job["outputs"], 1)
    job, scratch = arguments(embeddings=np.ones((0, 2), np.float32))
    with pytest.raises(ValueError, match="a token id is not in 0 to -1"):
        _kernels.run_recurrent([job], scratch)


def test_wrong_runs():
    job, scratch = arguments()
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"run_recurrent: {count} directions; expected 1 or 2"):
            _kernels.run_recurrent([job] * count, scratch)
    for number, bad in ((0, None), (0, [None]), (0, [None, job]), (0, (job,)), (1, None), (1, {})):
        given = [[job], scratch]
        given[number] = bad
        with pytest.raises(TypeError):
            _kernels.run_recurrent(*given)
    # A second direction that is wrong: the first one has not run.
    with pytest.raises(ValueError, match="outputs must be"):
        _kernels.run_recurrent([job, job | {"outputs": job["x"][0]}], scratch)
    np.testing.assert_array_equal(job["outputs"], 1)


def test_products_of_sizes_that_overflow():
    """Arrays without elements may have axes whose product with other sizes no address can count."""
    part = make_direction(1, 1, 3)
    part.kernel, part.initial_state = np.zeros((0, 12)), None
    for batch, timesteps in ((2**58, 1), (2**57, 2), (2**57, 1)):
        x = np.empty((batch, timesteps, 0), np.float32)
        with pytest.raises(ValueError, match="too large"):
            _kernels.run_recurrent([part.job(x, _kernels.Rows(batch, timesteps))], _kernels.Scratch())
    with pytest.raises(ValueError, match="too large"):
        part.embeddings, part.project = np.empty((2**58, 0), np.float32), True
        part.packed()
    for shape in ((2**62,), (2**40, 2**40), (-1,), (3, -2)):
        for take in (_kernels.aligned, lambda s: _kernels.Scratch().take(s)):
            with pytest.raises(ValueError, match="too large|negative"):
                take(shape)
    # Nothing to write: done at once, however many rows there are of it.
    empty, scratch = np.empty((2**55, 0, 16), np.float32), _kernels.Scratch()
    out = np.empty((2**55, 0), np.float32)
    assert _kernels.attention(empty, empty, empty, None, None, 1.0, False, empty.copy(), scratch).size == 0
    assert _kernels.reduce("mean", empty.reshape(2**55, 16, 0), 1, 2, out) is out
    assert _kernels.Matrix(np.empty((16, 0))).product(empty.reshape(0, 16), empty.reshape(0, 0)).size == 0
    assert _kernels.Matrix(np.empty((0, 0))).product(out, out.copy()).size == 0


def test_nothing_to_do():
    """Axes without elements."""
    for batch, timesteps, units in ((0, 3, 5), (2, 0, 5), (2, 3, 0), (0, 0, 0)):
        part = make_direction(max(batch, 0), 2, max(units, 1))
        if units == 0:
            part.kernel, part.recurrent_kernel = np.zeros((2, 0)), np.zeros((0, 0))
            part.bias, part.initial_state = np.zeros(0), (np.zeros((batch, 0)),) * 2
        y, h, c = part.run(np.zeros((batch, timesteps, 2), np.float32))
        assert y.shape == (batch, timesteps, units) and h.shape == c.shape == (batch, units)
        if timesteps == 0 and batch:
            same_bits(h, part.initial_state[0])


def test_plain_inputs():
    """What `is_plain` takes needs no change; the least doubt, and Python looks again."""
    ids, floats = np.arange(12, dtype=np.int32).reshape(3, 4), np.ones((3, 4, 2), np.float32)
    assert _kernels.is_plain(ids, "int32", (None, None), 12) and _kernels.is_plain(ids, "float32", (None, 4), 2**40)
    assert _kernels.is_plain(floats, "float32", (None, None, 2), None) and _kernels.is_plain(ids, "int64", (3, 4), None)
    misaligned = np.zeros(49, np.uint8)[1:].view(np.int32).reshape(3, 4)
    doubtful = [
        (ids, "int32", (None, None), 11),
        (ids - 1, "int32", (None, None), 12),
        (ids, "int32", (None, 5), 12),
        (ids, "int32", (None,), 12),
        (ids, "int32", (None, None, None), 12),
        (ids, "string", (None, None), None),
        (ids, "bool", (None, None), None),
        (ids[:0], "int32", (None, None), 12),
        (ids[:, :0], "int32", (None, None), 12),
        (ids[:, ::2], "int32", (None, None), 12),
        (ids.T, "int32", (None, None), 12),
        (misaligned, "int32", (None, None), 12),
        (ids.astype(np.uint32), "int32", (None, None), 12),
        (ids.astype(np.int64), "int32", (None, None), 12),
        (ids.byteswap().view(ids.dtype.newbyteorder()), "int32", (None, None), 12),
        (ids.view(np.recarray), "int32", (None, None), 12),
        (np.ma.masked_array(ids), "int32", (None, None), 12),
        (ids.tolist(), "int32", (None, None), 12),
        (floats, "float32", (None, None, 2), 12),
        (floats, "int32", (None, None, 2), None),
        (floats.astype(np.float64), "float32", (None, None, 2), None),
        (floats.astype(np.complex64), "float32", (None, None, 2), None),
        (floats.astype(object), "float32", (None, None, 2), None),
        (np.array("text"), "string", (), None),
        (np.datetime64("2020"), "int32", (None,), None),
        (None, "int32", (None,), None),
    ]
    for arguments in doubtful:
        assert _kernels.is_plain(*arguments) is False, arguments
