"""GRU, SimpleRNN, RNN over cells, TimeDistributed: what is refused and in which words, names of weights, states.

Files are built by hand (make_files.py); that the numbers are Keras' is test_golden.py's and test_random_models.py's.
"""

import make_files as mf
import numpy as np
import pytest

import fastbilstm
from fastbilstm import FileFormatError, UnsupportedLayerError

X = np.random.default_rng(3).standard_normal((4, 6, 3)).astype("f4")
UNITS = {"units": 2, "activation": "tanh", "use_bias": True}
GATED = {**UNITS, "recurrent_activation": "sigmoid"}


def cell(class_name, name="cell", **options):
    defaults = UNITS if class_name.startswith("SimpleRNN") else GATED
    if class_name.startswith("GRU"):
        defaults = {**GATED, "reset_after": False}
    return mf.layer(class_name, name, **(defaults | options))


def shapes(gates, features=3, units=2, bias=None):
    width = gates * units
    return {"kernel": (features, width), "recurrent_kernel": (units, width), "bias": bias or (width,)}


def content(layer, arrays, version=mf.KERAS2, batch=None, shape=(None, 3)):
    config = mf.sequential(mf.input_layer("x", (batch, *shape), "float32"), layer)
    return mf.h5(config, {layer["config"]["name"]: arrays}, version)


def values(*each):
    """Arrays with the names that several cells need in one group."""
    rng = np.random.default_rng(5)
    return {
        f"{number}/{role}": rng.normal(0, 0.5, shape).astype("f4")
        for number, roles in enumerate(each)
        for role, shape in roles.items()
    }


def gru(**options):
    return cell("GRU", "gru", **options)


def rnn(*cells, **options):
    holds = cells[0] if len(cells) == 1 else mf.layer("StackedRNNCells", "stack", cells=list(cells))
    return mf.layer("RNN", "rnn", cell=holds, **options)


TWO = (cell("LSTMCell", "a"), cell("GRUCell", "b"))
TWO_ARRAYS = values(shapes(4), shapes(3, 2))


def load(layer, *each, **options):
    return fastbilstm.load(content(layer, values(*each), **options), backend="numpy")


# ---- reset_after ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "bias"),
    [({"reset_after": False}, (2, 6)), ({"reset_after": True}, (6,)), ({"reset_after": False}, (12,))],
)
def test_bias_that_contradicts_reset_after(given, bias):
    words = rf"'gru' \(GRU\): its architecture says reset_after={given['reset_after']}, the bias of shape "
    with pytest.raises(FileFormatError, match=words):
        load(gru(**given), shapes(3, bias=bias))


def test_bias_of_cudnn_in_a_gru_is_converted():
    arrays = values(shapes(3, bias=(12,)))
    kernel, recurrent, bias = arrays.values()
    model = fastbilstm.load(content(gru(reset_after=True), arrays))
    ours = model.get_weights()
    np.testing.assert_array_equal(ours[2], bias.reshape(2, 6))
    np.testing.assert_array_equal(ours[1][:, 2:4], recurrent[:, 2:4].T)
    np.testing.assert_array_equal(ours[0][:, :2], kernel[:, :2].T.reshape(3, 2, order="F"))


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("custom", ["MinimalRNNCell", "Dense", "LSTM", "RNN"])
@pytest.mark.parametrize("stacked", [False, True])
def test_custom_cell_is_refused_by_name(custom, stacked):
    cells = (cell("GRUCell", "good"), cell(custom, "own")) if stacked else (cell(custom, "own"),)
    words = rf"\({'StackedRNNCells' if stacked else 'RNN'}\): option cells?='{custom}' is not supported"
    with pytest.raises(UnsupportedLayerError, match=words):
        load(rnn(*cells))


def test_rnn_without_a_cell():
    for layer in (mf.layer("RNN", "rnn"), mf.layer("RNN", "rnn", cell=mf.layer("StackedRNNCells", "s", cells=[]))):
        with pytest.raises(FileFormatError, match="it holds no cell"):
            load(layer)


def test_cell_alone_and_constants_are_refused():
    with pytest.raises(FileFormatError, match=r"'part' \(GRUCell\): a cell is called here"):
        load(cell("GRUCell", "part"), shapes(3))
    with pytest.raises(UnsupportedLayerError, match="num_constants='1' is not known"):
        load(rnn(cell("GRUCell"), num_constants=1), shapes(3))


def test_weights_that_do_not_fit_a_cell():
    with pytest.raises(FileFormatError, match=r"'b' \(GRUCell\): its kernel has shape \(5, 6\); the model needs \(2,"):
        load(rnn(*TWO), shapes(4), shapes(3, 5))
    with pytest.raises(FileFormatError, match=r"'a' \(LSTMCell\): its kernel has shape \(3, 8\); the model needs \(4,"):
        load(rnn(*TWO), shapes(4), shapes(3, 2), shape=(None, 4))


def test_names_and_order_of_the_weights():
    model = load(rnn(*TWO), shapes(4), shapes(3, 2))
    (layer,) = model.layers
    assert [part.name for part in layer.layers[0].layers] == ["a", "b"]
    for ours, theirs in zip(model.get_weights(), TWO_ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    lines = []
    model.summary(lines.append)
    assert "RNN(StackedRNNCells(LSTMCell(2), GRUCell(2)))" in lines[0]


def test_cells_without_names_of_their_own():
    cells = [cell("GRUCell", "x"), cell("GRUCell", "x")]
    model = load(rnn(*cells), shapes(3), shapes(3, 2))
    assert len(model.get_weights()) == 6


def test_order_of_states_that_is_not_known():
    """Before Keras 2.3 the states of a stack went from the last cell to the first."""
    for version, words in (("2.2.4", "keras 2.2.4"), ("2.1.6-tf", "tf_keras 2.1.6")):
        model = fastbilstm.load(content(rnn(*TWO), TWO_ARRAYS, version))
        assert model.predict(X).shape == (4, 2)
        with pytest.raises(FileFormatError, match=f"'rnn' .RNN.: the order of the states .* in {words} is not known"):
            fastbilstm.load(content(rnn(*TWO, return_state=True), TWO_ARRAYS, version))
    masked = mf.sequential(mf.input_layer("x", (None, None, 3), "float32"), mf.layer("Masking", "m", mask_value=0.0))
    masked["config"]["layers"].append(rnn(*TWO))
    with pytest.raises(FileFormatError, match="emit at masked timesteps in keras 2.2.4 is not known"):
        fastbilstm.load(mf.h5(masked, {"m": {}, "rnn": TWO_ARRAYS}, "2.2.4"))


# ---- states ---------------------------------------------------------------------------------------------------------

STATEFUL = {
    "gru": (gru(stateful=True), [shapes(3)]),
    "simple_rnn": (cell("SimpleRNN", "rnn", stateful=True), [shapes(1)]),
    "cell": (rnn(cell("LSTMCell"), stateful=True), [shapes(4)]),
    "stack": (rnn(*TWO, stateful=True), [shapes(4), shapes(3, 2)]),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_stateful_remembers_until_reset(name):
    layer, each = STATEFUL[name]
    model = load(layer, *each, batch=4)
    first, second = model.predict(X[:, :2]), model.predict(X[:, 2:])
    model.reset_states()
    np.testing.assert_allclose(model.predict(X), second, rtol=1e-6)
    model.reset_states()
    np.testing.assert_array_equal(model.predict(X[:, :2]), first)


def test_stateful_needs_a_batch_size():
    layer, each = STATEFUL["stack"]
    with pytest.raises(FileFormatError, match=r"'rnn' \(RNN\): stateful is true and the batch size is not fixed"):
        load(layer, *each)


# ---- TimeDistributed ------------------------------------------------------------------------------------------------


def distributed(inner, each, version=mf.KERAS2, batch=None):
    return load(mf.layer("TimeDistributed", "td", layer=inner), *each, version=version, batch=batch, shape=(None, 4, 3))


def test_time_distributed_refuses_states_and_several_outputs():
    assert distributed(gru(), [shapes(3)]).predict(np.zeros((2, 5, 4, 3), "f4")).shape == (2, 5, 2)
    with pytest.raises(FileFormatError, match="the layer inside it is stateful"):
        distributed(gru(stateful=True), [shapes(3)], batch=2)
    model = mf.sequential(mf.input_layer("x", (2, 4, 3), "float32"), gru(stateful=True))
    with pytest.raises(FileFormatError, match="the layer inside it is stateful"):
        distributed(model, [shapes(3)], batch=2)
    with pytest.raises(FileFormatError, match=r"the layer inside it, 'gru' \(GRU\), has 2 outputs; expected 1"):
        distributed(gru(return_state=True), [shapes(3)])


def test_converted_rnn_that_contradicts_itself():
    """A graph whose RNN holds no cell, or two."""
    whole = mf.converted(content(rnn(*TWO), TWO_ARRAYS))

    def none(graph):
        graph["layers"][0]["layers"] = []

    def two(graph):
        graph["layers"][0]["layers"] *= 2

    def empty(graph):
        graph["layers"][0]["layers"][0]["layers"] = []

    def layer_in_stack(graph):
        part = graph["layers"][0]["layers"][0]["layers"][0]
        loop = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "time_major")
        part["class_name"] = "LSTM"
        part["config"] |= dict.fromkeys((*loop, "zero_output_for_mask"), False)

    for edit in (none, two, empty, layer_in_stack):
        with pytest.raises(FileFormatError):
            fastbilstm.load(mf.edit_fbl(whole, edit_graph=edit))


def masked_steps(version, batch, inner):
    """Masking over (B, S, T, F), then TimeDistributed."""
    layers = (mf.input_layer("x", (batch, 3, 4, 3), "float32"), mf.layer("Masking", "m", mask_value=0.0))
    config = mf.sequential(*layers, mf.layer("TimeDistributed", "td", layer=inner))
    return fastbilstm.load(mf.h5(config, {"m": {}, "td": values(shapes(3))}, version), backend="numpy")


def test_time_distributed_with_a_fixed_batch_size_before_tf_keras():
    """Keras 2 ran the layer step by step then and showed it no mask; of tf.keras 1.x to 2.1 it is not known."""
    x = np.random.default_rng(7).standard_normal((2, 3, 4, 3)).astype("f4")
    x[:, :, 2:] = 0
    plain = load(mf.layer("TimeDistributed", "td", layer=gru()), shapes(3), shape=(3, 4, 3)).predict(x)
    np.testing.assert_array_equal(masked_steps("2.2.4", 2, gru()).predict(x), plain)
    assert not np.allclose(masked_steps("2.2.4", None, gru()).predict(x), plain)
    assert not np.allclose(masked_steps("2.15.0", 2, gru()).predict(x), plain)
    with pytest.raises(FileFormatError, match="2.2.4 does with a mask and a fixed batch size is not known"):
        masked_steps("2.2.4-tf", 2, gru())


# ---- nested states --------------------------------------------------------------------------------------------------


def stack_model(initial):
    """Functional model of a stack that returns its states, nested in the outputs; initial states nested in the call."""
    x, h = (mf.input_layer(n, s, "float32", functional=True) for n, s in (("x", (None, None, 3)), ("h", (None, 2))))
    layer = rnn(*TWO, return_state=True)
    states = [[["h", 0, 0, {}], ["h", 0, 0, {}]], ["h", 0, 0, {}]] if initial else []
    layer |= {"name": "rnn", "inbound_nodes": [[["x", 0, 0, {}], *states]]}
    config = mf.functional(x, h, layer, inputs=("x", "h"))
    ends = [["rnn", 0, 0], [["rnn", 0, 1], ["rnn", 0, 2]], ["rnn", 0, 3]]
    config["config"]["output_layers"] = ends
    return mf.h5(config, {"rnn": TWO_ARRAYS})


def test_nested_states(tmp_path):
    model = fastbilstm.load(stack_model(True))
    h = np.random.default_rng(8).standard_normal((4, 2)).astype("f4")
    y, (h1, c1), h2 = model.predict([X, h])
    np.testing.assert_array_equal(y, h2)
    assert h1.shape == c1.shape == (4, 2) and not np.allclose(h1, c1)
    model.save(tmp_path / "model.fbl")
    again = fastbilstm.load(tmp_path / "model.fbl").predict([X, h])
    np.testing.assert_array_equal(again[1][1], c1)
    zeros = fastbilstm.load(stack_model(False)).predict([X, h])
    np.testing.assert_array_equal(zeros[0], model.predict([X, 0 * h])[0])


WRONG_NESTING = [
    *(
        "nested:[0,[1,2]]",
        "nested:[0,[1,2],2]",
        "nested:[0,[true,2,3]]",
        'nested:[0,["1",1]]',
        "nested:0.5",
        "nested:{",
    ),
    "nested:" + "[" * 9000,
]


@pytest.mark.parametrize("structure", WRONG_NESTING)
@pytest.mark.parametrize("side", ["input_structure", "output_structure"])
def test_converted_file_with_wrong_nesting(structure, side):
    def edit(graph):
        graph[side] = structure

    with pytest.raises(FileFormatError):
        fastbilstm.load(mf.edit_fbl(mf.converted(stack_model(False)), edit_graph=edit))
