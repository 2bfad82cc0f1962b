"""Functional models built layer by layer for tests of the engine; the check against the specification in float64."""

import make_files as mf
import numpy as np

import fastbilstm
from fastbilstm.tolerances import compare

FEATURES, TIMESTEPS, ROWS, VOCABULARY = 5, 6, 7, 50
LSTM = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}


class Net:
    """A functional model under construction: each method adds a layer on others, by name, and returns its name."""

    def __init__(self, ids=False, shape=None, batch=None):
        kind, rest = ("int32", (None,)) if ids else ("float32", (None, FEATURES))
        self.shape, self.ids = (batch, *(rest if shape is None else shape)), ids
        self.layers, self.weights = [mf.input_layer("x", self.shape, kind, functional=True)], {}

    def add(self, class_name, name, *inbound, weights=(), calls=None, **options):
        entry = mf.layer(class_name, name, list(inbound), **options)
        if calls is not None:
            entry["inbound_nodes"] = [[[source, 0, 0, {}] for source in call] for call in calls]
        self.layers.append(entry)
        self.weights[name] = dict(weights)
        return name

    def embedding(self, name="embedding", on="x", mask_zero=False):
        options = {"input_dim": VOCABULARY, "output_dim": FEATURES, "mask_zero": mask_zero}
        return self.add("Embedding", name, on, weights={"embeddings": (VOCABULARY, FEATURES)}, **options)

    def bn(self, name, on, size=FEATURES, axis=-1, **options):
        roles = ("gamma", "beta", "moving_mean", "moving_variance")
        given = {"axis": [axis], "epsilon": 1e-3, "center": True, "scale": True} | options
        return self.add("BatchNormalization", name, on, weights=dict.fromkeys(roles, (size,)), **given)

    def dense(self, name, on, size=FEATURES, units=4, activation="linear", calls=None, **options):
        weights = {"kernel": (size, units), "bias": (units,)}
        options = {"units": units, "activation": activation, "use_bias": True} | options
        return self.add("Dense", name, on, weights=weights, calls=calls, **options)

    def lstm(self, name, on, features=FEATURES, units=3, calls=None, **options):
        weights = {f"lstm_cell/{role}": shape for role, shape in mf.lstm_weights(features, units).items()}
        return self.add("LSTM", name, on, weights=weights, calls=calls, **(LSTM | {"units": units} | options))

    def bidirectional(self, name, on, features=FEATURES, units=3, merge_mode="concat", **options):
        roles = mf.lstm_weights(features, units)
        weights = {f"{half}_lstm/{role}": roles[role] for half in ("forward", "backward") for role in roles}
        layer = mf.layer("LSTM", "lstm", None, **(LSTM | {"units": units} | options))
        return self.add("Bidirectional", name, on, weights=weights, layer=layer, merge_mode=merge_mode)

    def content(self, *outputs, edit=None):
        """The file; `edit` changes the weights in place."""
        weights = mf.weights_of(**self.weights)
        for roles in weights.values():
            if "moving_variance" in roles:
                roles["moving_variance"] = np.abs(roles["moving_variance"]) + np.float32(0.1)
        if edit is not None:
            edit(weights)
        config = mf.functional(*self.layers, inputs=["x"], outputs=[])
        ends = (output if isinstance(output, tuple) else (output, 0, 0) for output in outputs)
        config["config"]["output_layers"] = [list(end) for end in ends]
        return mf.h5(config, weights)

    def input(self, rows=ROWS, seed=0):
        rng = np.random.default_rng(seed)
        shape = (rows, *(TIMESTEPS if size is None else size for size in self.shape[1:]))
        if not self.ids:
            return rng.standard_normal(shape).astype(np.float32)
        return (rng.integers(1, VOCABULARY, shape) * (rng.random(shape) < 0.8)).astype(np.int32)


def labels(model):
    """What runs each layer, by name, as `summary()` tells it."""
    runner = model._plan.runner
    return {runner.inner[index].name: label for index, label in runner.labels.items()}


def as_list(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


def check(net, *outputs, runs=None, edit=None, x=None, rows=ROWS):
    """The engine against the specification in float64; twice, since buffers are used again. Returns the model."""
    content, x = net.content(*outputs, edit=edit), net.input(rows) if x is None else x
    exact = as_list(fastbilstm.load(content, backend="numpy", dtype="float64").predict(x, batch_size=rows))
    for budget in (None, 0):
        model = fastbilstm.load(content, backend="vector", memory_budget=budget)
        for _ in range(2):
            for number, (y, k) in enumerate(zip(as_list(model.predict(x, batch_size=rows)), exact, strict=True)):
                result = compare(y, k)
                assert result.ok, f"output {number}: {result.message}"
                assert y.dtype == (k.dtype if k.dtype.kind == "i" else np.float32)
            model.reset_states()
    model = fastbilstm.load(content, backend="vector")
    found = labels(model)
    assert {name: found.get(name) for name in runs or {}} == (runs or {})
    return model
