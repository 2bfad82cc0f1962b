"""Layers over windows of volumes, as a live Keras computes them, in float32 and float64 (needs TensorFlow).

Each line is a layer and the shape of its input; the file that Keras writes is loaded by all backends. Longer nets are
drawn by random_models.py.
"""

import os

import numpy as np
import pytest
from random_programs import fresh, random_value, variables

import fastbilstm
from fastbilstm.tolerances import compare

FRAMEWORKS = ("keras", "tf_keras")


def framework(name):
    """The module `name` on one thread; the test is skipped where it is missing."""
    for option in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(option, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    pytest.importorskip("tensorflow", reason="Keras' own answers need TensorFlow")
    return pytest.importorskip(name, reason=f"{name}'s own answers need it")


def draw(rng, tensor, shape):
    """Random numbers for an input: floats, or token ids 0 to 2."""
    name = getattr(tensor.dtype, "name", tensor.dtype)
    return rng.integers(0, 3, shape).astype(name) if name.startswith("int") else rng.normal(0, 1, shape).astype(name)


def listed(y):
    return list(y) if isinstance(y, list | tuple) else [y]


def check(k, floatx, build, shapes, folder, calls=1, form="h5", rows=True):
    """Compare the answers of all backends with Keras'; `build(k)` makes a model with inputs of these shapes.

    `rows`: whether the kernels must give the first row the same bits when it is alone.
    """
    fresh(k, floatx)
    try:
        rng = np.random.default_rng(7)
        model = build(k)
        for variable in variables(model):
            variable.assign(random_value(variable, rng))
        given = [[draw(rng, i, shape) for i, shape in zip(model.inputs, shapes)] for _ in range(calls)]
        expected = [listed(model(x if len(x) > 1 else x[0], training=False)) for x in given]
        path = folder / f"model.{form}"
        model.save(path)
    finally:
        k.backend.set_floatx("float32")
        k.mixed_precision.set_global_policy("float32")
    for backend in ("numpy", "vector") if floatx == "float32" else ("numpy",):
        ours = fastbilstm.load(path, backend=backend)
        for x, answer in zip(given, expected, strict=True):
            for number, (a, b) in enumerate(zip(listed(ours(x if len(x) > 1 else x[0])), answer, strict=True)):
                result = compare(a, np.asarray(b), floatx)
                assert result.ok, f"{backend}, output {number}: {result.message}"
        if rows and backend == "vector":
            x = [array[:1] for array in given[0]]
            whole, alone = ours(given[0] if len(x) > 1 else given[0][0]), ours(x if len(x) > 1 else x[0])
            for a, b in zip(listed(whole), listed(alone), strict=True):
                assert np.array_equal(a[:1], b), "the bits of a row depend on the batch"


def chain(expression, shape, batch=None):
    """A builder of the model of one layer, or of several in a list."""

    def build(k):
        x = k.Input(shape, batch_size=batch)
        layers = eval(expression, {"L": k.layers, "k": k})
        outputs = [layer(x) for layer in (layers if isinstance(layers, list) else [layers])]
        return k.Model(x, outputs[0] if len(outputs) == 1 else outputs)

    return build


VOLUME = (4, 5, 6, 2)
FIRST = (2, 4, 5, 6)
VOLUMES = [
    ("L.Conv3D(3, 2)", VOLUME),
    ("L.Conv3D(3, (1, 2, 3), strides=(2, 1, 2), padding='same', activation='relu')", VOLUME),
    ("L.Conv3D(2, 2, strides=2, use_bias=False)", VOLUME),
    ("L.Conv3D(2, (2, 1, 2), dilation_rate=(2, 1, 3), padding='same', activation='softmax')", VOLUME),
    ("L.Conv3D(4, 2, groups=2)", VOLUME),
    ("L.Conv3D(12, 3, padding='same')", (3, 4, 5, 9)),
    ("L.Conv3DTranspose(3, 2)", VOLUME),
    ("L.Conv3DTranspose(2, (1, 2, 3), strides=(2, 1, 2), padding='same', activation='tanh')", VOLUME),
    ("L.Conv3DTranspose(2, 3, strides=2, output_padding=(1, 0, 1))", VOLUME),
    ("L.Conv3DTranspose(2, 3, strides=2, output_padding=1, padding='same', use_bias=False)", VOLUME),
    ("L.GlobalAveragePooling3D()", VOLUME),
    ("L.GlobalAveragePooling3D(keepdims=True, data_format='channels_first')", FIRST),
    ("L.GlobalMaxPooling3D(data_format='channels_first')", FIRST),
    ("L.GlobalMaxPooling3D(keepdims=True)", VOLUME),
    ("L.ZeroPadding3D()", VOLUME),
    ("L.ZeroPadding3D((0, 1, 2))", VOLUME),
    ("L.ZeroPadding3D(((0, 1), (2, 0), (1, 3)), data_format='channels_first')", FIRST),
    ("L.Cropping3D()", VOLUME),
    ("L.Cropping3D(((1, 0), (0, 2), (1, 1)))", VOLUME),
    ("L.Cropping3D((1, 0, 2), data_format='channels_first')", FIRST),
    ("L.UpSampling3D()", VOLUME),
    ("L.UpSampling3D((1, 3, 2), data_format='channels_first')", FIRST),
    ("L.SpatialDropout3D(0.4)", VOLUME),
    ("L.TimeDistributed(L.Conv3D(2, 2))", (3, 3, 4, 3, 2)),
]
# TensorFlow computes these in float32 alone on a CPU.
NET = "L.Conv3D(4, 3), L.BatchNormalization(), L.ReLU(), L.MaxPooling3D(2), L.Flatten(), L.Dense(3)"
SINGLE = [
    ("L.MaxPooling3D()", VOLUME),
    ("L.MaxPooling3D((2, 1, 3), padding='same')", VOLUME),
    ("L.MaxPooling3D(2, strides=(1, 2, 1))", VOLUME),
    ("L.AveragePooling3D(2)", VOLUME),
    ("L.AveragePooling3D((3, 2, 2), strides=(2, 1, 3), padding='same')", VOLUME),
    (f"k.Sequential([L.ZeroPadding3D(1), {NET}])", VOLUME),
]
CHANNELS_FIRST = [
    ("L.Conv3D(3, 2, data_format='channels_first')", FIRST),
    ("L.Conv3D(6, 3, padding='same', data_format='channels_first')", FIRST),
    ("L.Conv3D(4, 2, strides=(1, 2, 1), activation='softmax', data_format='channels_first')", FIRST),
    ("L.MaxPooling3D((2, 1, 2), data_format='channels_first')", FIRST),
    ("L.AveragePooling3D(2, padding='same', data_format='channels_first')", FIRST),
    ("L.Conv3DTranspose(3, 2, strides=2, data_format='channels_first')", FIRST),
]


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("expression, shape", VOLUMES)
def test_volumes(name, floatx, expression, shape, tmp_path):
    check(framework(name), floatx, chain(expression, shape), [(3, *shape)], tmp_path)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("expression, shape", SINGLE)
def test_volumes_in_float32(name, expression, shape, tmp_path):
    check(framework(name), "float32", chain(expression, shape), [(3, *shape)], tmp_path)


@pytest.mark.parametrize("expression, shape", CHANNELS_FIRST)
def test_volumes_with_channels_first(expression, shape, tmp_path):
    check(framework("keras"), "float32", chain(expression, shape), [(3, *shape)], tmp_path, form="keras")


# ---- ConvLSTM -------------------------------------------------------------------------------------------------------

SEQUENCE, VIDEO, FIRST_VIDEO = (4, 6, 3), (3, 5, 4, 2), (3, 2, 5, 4)
CONV_LSTM = [
    ("L.ConvLSTM1D(3, 2)", SEQUENCE),
    ("L.ConvLSTM1D(2, 3, strides=2, padding='same', return_sequences=True, return_state=True)", SEQUENCE),
    ("L.ConvLSTM1D(2, 2, dilation_rate=2, go_backwards=True, return_sequences=True, use_bias=False)", SEQUENCE),
    ("L.ConvLSTM2D(3, 2)", VIDEO),
    ("L.ConvLSTM2D(3, (3, 2), padding='same', return_sequences=True)", VIDEO),
    ("L.ConvLSTM2D(2, (2, 3), strides=(2, 1), return_state=True, recurrent_activation='hard_sigmoid')", VIDEO),
    ("L.ConvLSTM2D(2, 2, dilation_rate=(1, 2), activation='relu', unit_forget_bias=False, dropout=0.3)", VIDEO),
    ("L.ConvLSTM2D(12, 1, padding='same', activation='softmax', go_backwards=True)", (2, 3, 3, 9)),
    ("L.ConvLSTM3D(2, 2, return_sequences=True)", (2, 3, 4, 3, 2)),
    ("L.ConvLSTM3D(2, (1, 2, 2), padding='same', strides=(1, 2, 1))", (2, 3, 4, 3, 2)),
    ("L.Bidirectional(L.ConvLSTM2D(2, 2, return_sequences=True))", VIDEO),
    ("L.Bidirectional(L.ConvLSTM2D(2, 2), merge_mode='sum')", VIDEO),
    ("L.Bidirectional(L.ConvLSTM1D(2, 2, padding='same', return_sequences=True), merge_mode='mul')", SEQUENCE),
    ("L.TimeDistributed(L.ConvLSTM1D(2, 2))", (2, 3, 6, 2)),
]
CONV_LSTM_FIRST = [
    ("L.ConvLSTM2D(3, 2, data_format='channels_first', return_sequences=True, return_state=True)", FIRST_VIDEO),
    ("L.ConvLSTM2D(4, 3, padding='same', data_format='channels_first', activation='softmax')", FIRST_VIDEO),
    ("L.Bidirectional(L.ConvLSTM2D(2, 2, padding='same', data_format='channels_first'))", FIRST_VIDEO),
    ("L.ConvLSTM1D(4, 2, data_format='channels_first', strides=2)", (4, 3, 8)),
]


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("expression, shape", CONV_LSTM)
def test_conv_lstm(name, floatx, expression, shape, tmp_path):
    check(framework(name), floatx, chain(expression, shape), [(3, *shape)], tmp_path, rows=False)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_conv_lstms_in_a_keras_archive(name, tmp_path):
    expression = "[L.ConvLSTM1D(2, 2), L.ConvLSTM1D(2, 3), L.Bidirectional(L.ConvLSTM1D(2, 2))]"
    check(
        framework("keras"), "float32", chain(expression, SEQUENCE), [(3, *SEQUENCE)], tmp_path, form="keras", rows=False
    )


@pytest.mark.parametrize("expression, shape", CONV_LSTM_FIRST)
def test_conv_lstm_with_channels_first(expression, shape, tmp_path):
    check(framework("keras"), "float32", chain(expression, shape), [(3, *shape)], tmp_path, form="keras", rows=False)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("options", ["", ", return_sequences=True, go_backwards=True"])
def test_a_stateful_conv_lstm_remembers(name, options, tmp_path):
    build = chain(f"L.ConvLSTM2D(2, 2, stateful=True{options})", VIDEO, 3)
    check(framework(name), "float32", build, [(3, *VIDEO)], tmp_path, calls=3, rows=False)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("double", [False, True])
def test_initial_states_of_a_conv_lstm(name, double, tmp_path):
    def build(k):
        x, *states = [k.Input(VIDEO), *(k.Input((4, 3, 2)) for _ in range(4 if double else 2))]
        layer = k.layers.ConvLSTM2D(2, 2, return_sequences=True, return_state=True)
        layer = k.layers.Bidirectional(layer) if double else layer
        return k.Model([x, *states], list(layer(x, initial_state=states)))

    shapes = [(3, *VIDEO), *[(3, 4, 3, 2)] * (4 if double else 2)]
    check(framework(name), "float32", build, shapes, tmp_path, rows=False)


MASKED = [
    "L.ConvLSTM1D(2, 2)",
    "L.ConvLSTM1D(2, 2, return_sequences=True, return_state=True)",
    "L.ConvLSTM1D(2, 2, return_sequences=True, go_backwards=True)",
    "L.ConvLSTM1D(2, 2, return_sequences=True, zero_output_for_mask=True)",
    "L.Bidirectional(L.ConvLSTM1D(2, 2, return_sequences=True))",
    "L.Bidirectional(L.ConvLSTM1D(2, 2), merge_mode='ave')",
]


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("expression", [*MASKED, "L.ConvLSTM1D(2, 2, unroll=True, return_sequences=True)"])
def test_masks_of_a_conv_lstm(name, explicit, expression, tmp_path):
    """A mask that comes along with the frames, and one that is given; a second layer reads what masked steps emit."""
    if name == "tf_keras" and ("unroll" in expression or not explicit):
        pytest.skip("tf_keras refuses unroll, and Reshape of a masked input")

    def build(k):
        ids = k.Input((4,), dtype="int32")
        y = k.layers.Embedding(3, 12, mask_zero=not explicit)(ids)
        y = k.layers.TimeDistributed(k.layers.Reshape((4, 3)))(y)
        mask = {"mask": k.layers.Embedding(3, 1, mask_zero=True).compute_mask(ids)} if explicit else {}
        y = eval(expression, {"L": k.layers})(y, **mask)
        outputs = list(y) if isinstance(y, list | tuple) else [y]
        if len(outputs[0].shape) == 4:
            outputs.append(k.layers.ConvLSTM1D(1, 1)(outputs[0]))
        return k.Model(ids, outputs)

    check(framework(name), "float32", build, [(5, 4)], tmp_path, rows=False)


# ---- LocallyConnected -----------------------------------------------------------------------------------------------

LOCALLY_CONNECTED = [
    (1, "3, 2", (6, 3)),
    (1, "2, 3, strides=2, activation='softmax'", (7, 3)),
    (1, "4, 2, use_bias=False", (5, 2)),
    (2, "3, (2, 3)", (4, 5, 2)),
    (2, "2, 2, strides=(2, 1), activation='relu'", (5, 4, 3)),
]
LOCALLY_CONNECTED_SAME = [
    (1, "3, 2, padding='same'", (6, 3)),
    (1, "2, 5, strides=3, padding='same'", (7, 2)),
    (2, "2, (2, 3), padding='same', strides=(1, 2)", (3, 5, 2)),
]


@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("implementation", [1, 2, 3])
@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
@pytest.mark.parametrize("rank, options, shape", LOCALLY_CONNECTED + LOCALLY_CONNECTED_SAME)
def test_locally_connected(floatx, implementation, form, rank, options, shape, tmp_path):
    """The widths of the axes differ, so that none is taken for another."""
    if "same" in options and implementation == 1:
        pytest.skip("tf_keras refuses it")
    shape = (shape[-1], *shape[:-1]) if form == "channels_first" else shape
    given = f"{options}, implementation={implementation}, data_format={form!r}"
    build = chain(f"L.LocallyConnected{rank}D({given})", shape)
    check(framework("tf_keras"), floatx, build, [(3, *shape)], tmp_path, rows=False)


# ---- adaptive pooling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Average", "Max"])
@pytest.mark.parametrize("floatx", ["float32", "float64"])
@pytest.mark.parametrize("form", ["channels_last", "channels_first"])
@pytest.mark.parametrize("shape, output_size", [
    ((7, 2), 3), ((6, 2), (4,)), ((5, 3), 5), ((3, 2), 7), ((5, 6, 2), (2, 4)), ((4, 7, 3), 3),
    ((3, 5, 2), (5, 2)), ((4, 5, 3, 2), (3, 2, 3)), ((3, 4, 5, 2), 2),
])  # fmt: skip
def test_adaptive_pooling(kind, floatx, form, shape, output_size, tmp_path):
    """More windows than 1: for one, TensorFlow 2.21 divides by zero and ends the process."""
    rank = len(shape) - 1
    if rank == 3 and floatx == "float64":
        pytest.skip("TensorFlow pools volumes in float32 alone on a CPU")
    shape = (shape[-1], *shape[:-1]) if form == "channels_first" else shape
    build = chain(f"L.Adaptive{kind}Pooling{rank}D({output_size}, data_format={form!r})", shape)
    check(framework("keras"), floatx, build, [(3, *shape)], tmp_path)
