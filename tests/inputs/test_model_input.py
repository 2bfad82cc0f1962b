"""What predict and Model(x) take and refuse: dtypes, shapes, token ids, several inputs, batches, threads.

The models are the hand-built ones of make_files.py; what Keras computes from good input is tested in test_golden.py.
"""

import threading

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import InputError

RNG = np.random.default_rng(1)


def two_inputs():
    """LSTM on floats (rows, any, 4), joined with extra (rows, 2), then Dense."""
    config = mf.functional(
        mf.input_layer("x", (None, None, 4), "float32", functional=True),
        mf.input_layer("extra", (None, 2), "float32", functional=True),
        mf.lstm(inbound=["x"]),
        mf.layer("Concatenate", "join", ["lstm", "extra"], axis=-1),
        mf.dense(inbound=["join"]),
        inputs=("x", "extra"),
    )
    return fastbilstm.load(
        mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3), dense={"kernel": (5, 2), "bias": (2,)}))
    )


@pytest.fixture(scope="module")
def tokens():
    return fastbilstm.load(mf.h5())


@pytest.fixture(scope="module")
def sequences():
    return mf.floats()


X = RNG.standard_normal((5, 6, 4)).astype("f4")


# ---- dtype ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 >i4 >f8".split())
def test_ids_of_any_number_dtype(dtype, tokens):
    np.testing.assert_array_equal(tokens.predict(mf.IDS.astype(dtype)), tokens.predict(mf.IDS))


def test_ids_as_lists_and_booleans(tokens):
    np.testing.assert_array_equal(tokens.predict(mf.IDS.tolist()), tokens.predict(mf.IDS))
    np.testing.assert_array_equal(tokens.predict(mf.IDS > 2), tokens.predict((mf.IDS > 2).astype(int)))


def test_float_ids_truncate_and_the_mask_does_not(tokens):
    """0.6 reads row 0 and is not masked, unless the Input declares integers; -0.9 truncates to 0, too."""
    config = mf.sequential(mf.input_layer(dtype="float32"), mf.embedding(), mf.lstm(), mf.dense())
    model = fastbilstm.load(mf.h5(config))
    for net in (model, tokens):
        np.testing.assert_array_equal(net.predict(mf.IDS + 0.75 * (mf.IDS > 0)), tokens.predict(mf.IDS))
    assert (model.predict([[1.0, 0.6]]) != model.predict([[1.0, 0.0]])).any()
    np.testing.assert_array_equal(model.predict([[1.0, -0.9]]), model.predict([[1.0, 0.6]]))
    np.testing.assert_array_equal(tokens.predict([[1.0, 0.6]]), tokens.predict([[1.0, 0.0]]))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4", "u1", "i8"])
def test_floats_of_any_number_dtype(dtype, sequences):
    x = (X * 3).astype(dtype)
    np.testing.assert_array_equal(sequences.predict(x), sequences.predict(x.astype("f4")))


def test_layout_of_the_array_does_not_matter(sequences, tokens):
    expected = sequences.predict(X)
    wide = np.zeros((5, 12, 8), "f4")
    wide[:, ::2, ::2] = X
    flipped = np.ascontiguousarray(X[::-1, ::-1, ::-1])
    packed = np.zeros(X.nbytes + 1, "u1")
    packed[1:] = X.view("u1").ravel()
    for x in (
        np.asfortranarray(X),
        wide[:, ::2, ::2],
        flipped[::-1, ::-1, ::-1],
        packed[1:].view("f4").reshape(X.shape),
    ):
        np.testing.assert_array_equal(sequences.predict(x), expected)
    np.testing.assert_array_equal(tokens.predict(np.asfortranarray(mf.IDS)), tokens.predict(mf.IDS))


def test_input_is_not_changed(sequences):
    x = X.copy()
    x.flags.writeable = False
    sequences.predict(x)
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize(
    "x",
    [
        [["a", "b"]],
        np.array([[1 + 2j]]),
        np.array([[None]]),
        np.array([["2020-01-01"]], "M8[D]"),
        [[10**30]],
        None,
        {1},
    ],
    ids=["text", "complex", "None", "dates", "huge integer", "no array", "set"],
)
def test_what_is_no_number(x, tokens):
    with pytest.raises(InputError, match=r"input 'ids'.*expected numbers"):
        tokens.predict(x)


# ---- token ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1, "-1"), (7, "7"), (2**40, "1099511627776"), (7.5, "7.5"), (-1.5, "-1.5"), (1e30, "1e[+]30"),
     (np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")],
)  # fmt: skip
def test_id_outside_the_embedding(value, shown, tokens):
    x = np.array(mf.IDS, "f8" if isinstance(value, float) else "i8")
    x[2, 1] = value
    with pytest.raises(
        InputError, match=rf"input 'ids': the token id at position \(2, 1\) is {shown}; expected 0 to 6"
    ):
        tokens.predict(x)


def test_unsigned_id_past_the_end(tokens):
    with pytest.raises(InputError, match=r"at position \(0, 0\) is 18446744073709551615"):
        tokens.predict(np.array([[2**64 - 1, 1]], "u8"))


def test_position_counts_all_rows_not_those_of_the_batch(tokens):
    x = np.ones((100, 3), int)
    x[77, 2] = 9
    with pytest.raises(InputError, match=r"position \(77, 2\) is 9"):
        tokens.predict(x, batch_size=8)


def test_ids_of_an_embedding_inside_another_model():
    inner = mf.sequential(mf.embedding(), mf.lstm()) | {"name": "inner"}
    inner["config"]["layers"][0]["config"]["batch_input_shape"] = [None, None]
    config = mf.functional(
        mf.input_layer(functional=True, dtype="float32"),
        inner | {"inbound_nodes": [[["ids", 0, 0, {}]]]},
        outputs=("inner",),
    )
    flat = [array for name in ("embedding", "lstm") for array in mf.weights()[name].values()]
    roles = ("embedding/embeddings", "lstm/kernel", "lstm/recurrent_kernel", "lstm/bias")
    model = fastbilstm.load(mf.h5(config, {"inner": dict(zip(roles, flat, strict=True))}))
    assert model.self_check().ok
    with pytest.raises(InputError, match=r"input 'ids': the token id at position \(50, 0\) is 9.0; expected 0 to 6"):
        model.predict(np.array([[1.0]] * 50 + [[9.0]]))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_ids_that_pass_another_layer_are_checked_where_they_arrive(dtype):
    shape = mf.input_layer(shape=(None, 2, 2), dtype=dtype)
    config = mf.sequential(shape, mf.layer("Reshape", "flat", target_shape=[4]), mf.embedding(), mf.lstm())
    model = fastbilstm.load(mf.h5(config, {name: mf.weights()[name] for name in ("embedding", "lstm")}))
    assert model.predict([[[1, 2], [3, 4]]]).shape == (1, 3) and model.self_check().ok
    with pytest.raises(InputError, match=r"layer 'embedding' \(Embedding\): .* is 9(\.0)?; expected 0 to 6"):
        model.predict([[[1, 9], [3, 4]]])


# ---- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (5, 6, 3), (5, 6, 5), (5, 6, 4, 2), (5, 6, 4, 1, 1)], ids=str)
def test_wrong_shape(shape, sequences):
    with pytest.raises(InputError, match=r"input 'x': has shape .*; expected \(rows, any, 4\)"):
        sequences.predict(np.zeros(shape, "f4"))


def test_free_sizes_that_do_not_fit():
    """What the file leaves open is known only when the input is there."""
    config = mf.functional(
        mf.input_layer("x", (None, None), "float32", functional=True),
        mf.input_layer("extra", (None, None), "float32", functional=True),
        mf.layer("Add", "add", ["x", "extra"]),
        inputs=("x", "extra"),
        outputs=("add",),
    )
    model = fastbilstm.load(mf.h5(config, {}))
    np.testing.assert_array_equal(model.predict([EXTRA, EXTRA]), EXTRA + EXTRA)
    with pytest.raises(InputError, match=r"inputs of shapes \(5, 2\), \(5, 4\) do not fit each other"):
        model.predict([EXTRA, X[:, 0]])


def test_fixed_timesteps():
    model = mf.floats(timesteps=6)
    assert model.predict(X).shape == (5, 3)
    with pytest.raises(InputError, match=r"input 'x': has shape \(5, 5, 4\); expected \(rows, 6, 4\)"):
        model.predict(X[:, :5])


def test_last_axis_of_size_1_is_added_and_taken_away(sequences, tokens):
    """As Keras does (keras 3.15, src/models/functional.py, _adjust_input_rank)."""
    np.testing.assert_array_equal(sequences.predict(X[..., np.newaxis]), sequences.predict(X))
    np.testing.assert_array_equal(tokens.predict(mf.IDS[..., np.newaxis]), tokens.predict(mf.IDS))
    narrow = mf.floats(features=1)
    np.testing.assert_array_equal(narrow.predict(X[:, :, 0]), narrow.predict(X[:, :, :1]))


def test_no_rows_no_answer(sequences, tokens):
    for model, x, shape in (
        (tokens, np.zeros((0, 4), int), (0, 2)),
        (sequences, X[:0], (0, 3)),
        (mf.floats(return_sequences=True), X[:0], (0, 6, 3)),
        (two_inputs(), [X[:0], np.zeros((0, 2))], (0, 2)),
    ):
        for y in (model.predict(x), model(x), model.predict(x, batch_size=1)):
            assert y.shape == shape and y.dtype == np.float32


def test_no_timesteps_are_refused(sequences, tokens):
    for model, x in ((tokens, np.zeros((3, 0), int)), (sequences, X[:, :0])):
        for rows in (slice(None), slice(0)):
            with pytest.raises(InputError, match=r"an axis of size 0 \(no timesteps\) has no answer"):
                model.predict(x[rows])


def test_one_timestep_and_one_row(sequences):
    assert sequences.predict(X[:1, :1]).shape == (1, 3)


# ---- NaN and infinity -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_nan_and_inf_pass_through(backend):
    config = mf.sequential(mf.input_layer("x", (None, None, 2), "float32"), mf.dense("dense", activation="linear"))
    kernel = np.array([[1, 0.5], [0.25, 1]], "f4")
    model = fastbilstm.load(mf.h5(config, {"dense": {"kernel": kernel, "bias": np.zeros(2, "f4")}}), backend=backend)
    x = np.array([[[np.nan, 1], [np.inf, 1], [-np.inf, 1], [1, 2]]], "f4")
    expected = [[[np.nan, np.nan], [np.inf, np.inf], [-np.inf, -np.inf], [1.5, 2.5]]]
    np.testing.assert_array_equal(model.predict(x), np.array(expected, "f4"))


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_nan_stays_in_its_row(backend):
    config = mf.sequential(mf.input_layer("x", (None, None, 4), "float32"), mf.lstm(return_sequences=True))
    model = fastbilstm.load(mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3))), backend=backend)
    x = X.copy()
    x[1, 2, 0] = np.nan
    y, clean = model.predict(x), model.predict(X)
    assert np.isnan(y[1, 2:]).all()
    np.testing.assert_array_equal(y[1, :2], clean[1, :2])
    np.testing.assert_array_equal(np.delete(y, 1, axis=0), np.delete(clean, 1, axis=0))


def test_infinity_saturates_the_gates(sequences):
    x = np.zeros((1, 2, 4), "f4")
    x[..., 0] = np.inf
    assert (np.abs(sequences.predict(x)) <= 1).all()


# ---- several inputs -------------------------------------------------------------------------------------------------

EXTRA = RNG.standard_normal((5, 2)).astype("f4")


def test_several_inputs_as_list_tuple_and_dict():
    model = two_inputs()
    expected = model.predict([X, EXTRA])
    for x in ((X, EXTRA), {"x": X, "extra": EXTRA}, {"extra": EXTRA, "x": X}, [X.tolist(), EXTRA.tolist()]):
        np.testing.assert_array_equal(model.predict(x), expected)
        np.testing.assert_array_equal(model(x), expected)
    assert [given.name for given in model.inputs] == ["x", "extra"]


def test_one_input_as_list_and_dict(sequences):
    for x in ([X], (X,), {"x": X}):
        np.testing.assert_array_equal(sequences.predict(x), sequences.predict(X))


@pytest.mark.parametrize(
    "x", [{"x": X}, {"x": X, "other": EXTRA}, {"extra": EXTRA}, {}], ids=lambda x: "+".join(x) or "none"
)
def test_wrong_names(x):
    with pytest.raises(InputError, match="the inputs are 'x', 'extra'; got"):
        two_inputs().predict(x)


def test_wrong_number_of_inputs():
    model = two_inputs()
    for x, got in (([X], "1 of them"), ([X, EXTRA, EXTRA], "3 of them"), (X, "ndarray")):
        with pytest.raises(InputError, match=rf"the model has 2 inputs \('x', 'extra'\); got {got}"):
            model.predict(x)


def test_two_arrays_for_one_input(sequences, tokens):
    x = RNG.standard_normal((3, 6, 4)).astype(np.float32)
    for given, count in (([x, x], 2), ((x, x[:2], x[:, :4]), 3)):
        with pytest.raises(InputError, match=f"the model has one input \\('x'\\); got {count} arrays.*np.concatenate"):
            sequences.predict(given)
    with pytest.raises(InputError, match="the model has one input"):
        tokens(list(np.ones((2, 3, 4), int)))
    # Rows of a list are no inputs: frames, token ids, token ids with a last axis of size 1.
    np.testing.assert_array_equal(sequences.predict(list(x)), sequences.predict(x))
    np.testing.assert_array_equal(tokens.predict(list(mf.IDS)), tokens.predict(mf.IDS))
    np.testing.assert_array_equal(tokens.predict([row[:, None] for row in mf.IDS]), tokens.predict(mf.IDS))


def test_training_may_be_said_as_to_keras(tokens):
    for training in (False, None):
        np.testing.assert_array_equal(tokens(mf.IDS, training=training), tokens(mf.IDS))
    with pytest.raises(InputError, match="training is True: fastbilstm computes inference alone"):
        tokens(mf.IDS, training=True)


def test_swapped_inputs_are_named():
    with pytest.raises(InputError, match="input 'x': has shape"):
        two_inputs().predict([EXTRA, X])


def test_differing_row_counts():
    with pytest.raises(InputError, match=r"the inputs differ in their number of rows \('x': 5, 'extra': 4\)"):
        two_inputs().predict([X, EXTRA[:4]])


# ---- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8", True, [4], float("nan"), float("inf")], ids=repr)
def test_batch_size_that_is_none(batch_size, sequences):
    with pytest.raises(InputError, match=r"batch_size is .*; expected a whole number of at least 1"):
        sequences.predict(X, batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100, 10**30, np.int64(3), None])
def test_batch_size_does_not_change_the_answer(batch_size, sequences):
    x = RNG.standard_normal((67, 5, 4)).astype("f4")
    np.testing.assert_allclose(sequences.predict(x, batch_size=batch_size), sequences(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("verbose", [0, 1, 2, "auto"])
def test_verbose(verbose, sequences, capsys):
    np.testing.assert_array_equal(sequences.predict(X, 2, verbose), sequences.predict(X, 2))
    assert capsys.readouterr() == ("", "")  # a progress line on terminals only


# ---- one model, several callers -------------------------------------------------------------------------------------


def test_predict_is_call(sequences, tokens):
    for model, x in ((sequences, X), (tokens, mf.IDS)):
        np.testing.assert_array_equal(model.predict(x), model(x))


def test_weights_are_in_the_order_of_the_file(tokens):
    """A Keras file lists weights in the order of Keras' get_weights."""
    arrays = [array for roles in mf.weights().values() for array in roles.values()]
    for ours, theirs in zip(tokens.get_weights(), arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    names = [layer.name for layer in tokens.layers if layer.get_weights()]
    assert names == ["embedding", "lstm", "dense"]
    assert [len(layer.get_weights()) for layer in tokens.layers if layer.name in names] == [1, 3, 2]


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_threads_share_a_model(backend):
    model = fastbilstm.load(mf.h5(), backend=backend)
    batches = [RNG.integers(0, 7, (16, 5 + k)) for k in range(8)]
    expected = [model.predict(x) for x in batches]
    wrong = []

    def work(first):
        for k in range(60):
            number = (first + k) % len(batches)
            if not np.array_equal(model.predict(batches[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_reshape_that_fits_one_number_of_timesteps_only(tmp_path):
    """A model with a free time axis that a layer fixes: other inputs do not fit, and it converts all the same."""
    config = mf.sequential(
        mf.input_layer("x", (None, None, 2), "float32"), mf.layer("Reshape", "r", target_shape=[3, 2])
    )
    fastbilstm.load(mf.h5(config, {})).save(tmp_path / "m.fbl")
    model = fastbilstm.load(tmp_path / "m.fbl", check=True)
    assert model.predict(np.ones((2, 3, 2))).shape == (2, 3, 2)
    with pytest.raises(InputError, match=r"layer 'r' \(Reshape\): target_shape is \[3, 2\].*sizes \(4, 2\)"):
        model.predict(np.ones((2, 4, 2)))
