"""The nets made by hand from the same weights, as somebody who knows the engine would: ONNX LSTM operators, PyTorch.

Both take time-major input. Where the net has a mask, `arrange` shifts the rows to padding behind, sorts them by length
and cuts the batch at the longest; the engines get the lengths if rows differ in them. None of that is timed. `onnx` and
`torch` are imported by the functions that need them. Knows nothing of Keras and times.
"""

from functools import partial

import numpy as np
from nets import layer_parts

EPSILON = 1e-3  # of BatchNormalization
RECURRENT = ("lstm", "lstm_pair", "bilstm", "gru", "bigru")


def arrange(net, x):
    """Return (time-major input, lengths or None, order): row `order[k]` of x is column k."""
    if not net.masked:
        return np.ascontiguousarray(np.swapaxes(x, 0, 1)), None, np.arange(len(x))
    lengths = (x != 0).sum(axis=1)
    order = np.argsort(-lengths, kind="stable")
    lengths = lengths[order].astype(np.int32)
    shifted = np.zeros((lengths[0], len(x)), x.dtype)
    for column, row in enumerate(order):
        shifted[: lengths[column], column] = x[row][x[row] != 0]
    return shifted, lengths if lengths[0] != lengths[-1] else None, order


def restore(y, order, sequences):
    """The output as Keras gives it: rows in the order of the input, batch-major."""
    y = np.swapaxes(y, 0, 1) if sequences else y
    rows = np.empty_like(y)
    rows[order] = y
    return rows


def returns_sequences(net):
    """Whether the output has an axis of timesteps."""
    sequence = True
    for layer in net.layers:
        if layer[0] in ("lstm", "lstm_pair", "gru", "attention_mean") or (layer[0].startswith("bi") and not layer[2]):
            sequence = False
    return sequence


def scale_and_shift(gamma, beta, mean, variance):
    """BatchNormalization at inference as x * scale + shift."""
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale, beta - mean * scale


# ---- ONNX ----------------------------------------------------------------------------------------------------------


def _onnx_gates(array):
    """Keras' columns i f c o as ONNX' rows i o f c."""
    i, f, c, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1).T


def _torch_gates(array):
    """A GRU's columns z r h as r z h."""
    z, r, h = np.split(array, 3, axis=-1)
    return np.concatenate([r, z, h], axis=-1)


class _OnnxGraph:
    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array):
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator, inputs, outputs=1, **attributes):
        from onnx import helper

        names = [f"{operator}_{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def recurrent(self, x, directions, units, sequences, merge, lengths, is_gru):
        """LSTM or GRU over `directions`, a list of (kernel, recurrent_kernel, bias); the merged output."""
        order = (lambda array: array.T) if is_gru else _onnx_gates  # both have the gates z r h
        kernels = np.stack([order(kernel) for kernel, _, _ in directions])
        recurrent = np.stack([order(recurrent) for _, recurrent, _ in directions])
        if is_gru:
            biases = np.stack([bias.ravel() for _, _, bias in directions])
        else:
            biases = np.stack([np.concatenate([order(bias), np.zeros_like(bias)]) for _, _, bias in directions])
        inputs = [x, *map(self.constant, (kernels, recurrent, biases)), *([lengths] if lengths else [])]
        direction = "bidirectional" if len(directions) == 2 else "forward"
        if is_gru:
            y, y_h = self.add("GRU", inputs, 2, hidden_size=units, direction=direction, linear_before_reset=1)
        else:
            y, y_h, _ = self.add("LSTM", inputs, 3, hidden_size=units, direction=direction)
        y = y if sequences else y_h  # (T, D, B, U) or (D, B, U)
        if merge != "concat":
            axis = 1 if sequences else 0
            if merge == "ave":
                return self.add("ReduceMean", [y, self.constant(np.array([axis]))], keepdims=0)
            return self.add("ReduceSum", [y, self.constant(np.array([axis]))], keepdims=0)
        y = self.add("Transpose", [y], perm=[0, 2, 1, 3] if sequences else [1, 0, 2])
        shape = [0, 0, len(directions) * units] if sequences else [0, len(directions) * units]
        return self.add("Reshape", [y, self.constant(np.array(shape))])


def write_onnx(net, weights, path, masked=False):
    """Write the net as an ONNX model with the inputs `x` (time-major) and, if `masked`, `lengths` (B,) of the rows."""
    import onnx
    from onnx import TensorProto, helper

    graph, lengths = _OnnxGraph(), "lengths" if masked else None
    shape = ["T", "B"] if net.features is None else ["T", "B", net.features]
    kind = TensorProto.INT32 if net.features is None else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    if lengths:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
    x = "x"
    for layer, _, parts in layer_parts(net):
        arrays = [array for name, _ in parts for array in weights[name]]
        if layer[0] == "embedding":
            x = graph.add("Gather", [graph.constant(arrays[0]), x])
        elif layer[0] in RECURRENT:
            directions = [arrays[at : at + 3] for at in range(0, len(arrays), 3)]
            sequences, merge = layer[2:] if layer[0].startswith("bi") else (False, "concat")
            x = graph.recurrent(x, directions, layer[1], sequences, merge, lengths, layer[0].endswith("gru"))
        elif layer[0] == "batchnorm":
            scale, shift = map(graph.constant, scale_and_shift(*arrays))
            x = graph.add("Add", [graph.add("Mul", [x, scale]), shift])
        elif layer[0] == "attention_mean":
            # The mean over queries of softmax(QK^T) comes before the product with V: half the FLOPs.
            queries = graph.add("Transpose", [x], perm=[1, 0, 2])
            keys = graph.add("Transpose", [x], perm=[1, 2, 0])
            for scale in arrays:
                keys = graph.add("Mul", [keys, graph.constant(scale)])
            scores = graph.add("Softmax", [graph.add("MatMul", [queries, keys])], axis=-1)
            mean = graph.add("ReduceMean", [scores, graph.constant(np.array([1]))], keepdims=1)
            x = graph.add("MatMul", [mean, queries])
            x = graph.add("Squeeze", [x, graph.constant(np.array([1]))])
        else:
            x = graph.add("MatMul", [x, graph.constant(arrays[0])])
            x = graph.add("Add", [x, graph.constant(arrays[1])])
            if layer[2] != "linear":
                x = graph.add("Sigmoid", [x]) if layer[2] == "sigmoid" else graph.add("Softmax", [x], axis=-1)
    output = ["T", "B", net.layers[-1][1]] if returns_sequences(net) else ["B", net.layers[-1][1]]
    graph.add("Identity", [x])
    graph.nodes[-1].output[0] = "y"
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)]
    model = helper.make_graph(graph.nodes, "net", inputs, outputs, graph.constants)
    model = helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


# ---- PyTorch -------------------------------------------------------------------------------------------------------


def torch_tensor(array):
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


def torch_recurrent(arrays, is_gru=False, **options):
    """nn.LSTM or nn.GRU of Keras' kernel, recurrent_kernel and bias, of six arrays a bidirectional one."""
    import torch

    features, units = len(arrays[0]), len(arrays[1])
    module = (torch.nn.GRU if is_gru else torch.nn.LSTM)(features, units, bidirectional=len(arrays) == 6, **options)
    state = {}
    for at, suffix in zip(range(0, len(arrays), 3), ("", "_reverse")):
        # The gates of an LSTM are in Keras' order; of a GRU they are r z h.
        kernel, hidden, bias = (_torch_gates(array) if is_gru else array for array in arrays[at : at + 3])
        state[f"weight_ih_l0{suffix}"], state[f"weight_hh_l0{suffix}"] = torch_tensor(kernel.T), torch_tensor(hidden.T)
        pair = bias if is_gru else (bias, np.zeros_like(bias))
        state[f"bias_ih_l0{suffix}"], state[f"bias_hh_l0{suffix}"] = map(torch_tensor, pair)
    module.load_state_dict(state)
    module.flatten_parameters()
    return module.eval().requires_grad_(False)


def torch_net(net, weights, change=lambda module: module):
    """A function of (ids or floats (T, B, ...), lengths or None), in the order of `arrange`; packed where masked.

    `change` turns an nn.LSTM or nn.GRU into what runs in its place.
    """
    import torch
    from torch.nn.utils.rnn import PackedSequence

    def on_values(function, x):
        return PackedSequence(function(x.data), x.batch_sizes) if isinstance(x, PackedSequence) else function(x)

    def merged(y, units, merge):
        if merge == "concat":
            return y
        total = y[..., :units] + y[..., units:]
        return total if merge == "sum" else total / 2

    def step(layer, arrays):
        kind = layer[0]
        if kind == "embedding":
            table = torch_tensor(arrays[0])
            return lambda x: on_values(lambda ids: torch.nn.functional.embedding(ids, table), x)
        if kind in RECURRENT:
            module = change(torch_recurrent(arrays, kind.endswith("gru")))
            sequences, merge = layer[2:] if kind.startswith("bi") else (False, "concat")
            if sequences:
                return lambda x: on_values(lambda y: merged(y, layer[1], merge), module(x)[0])
            last = (lambda states: states) if kind.endswith("gru") else (lambda states: states[0])
            return lambda x: merged(torch.cat(tuple(last(module(x)[1])), dim=-1), layer[1], merge)
        if kind == "batchnorm":
            scale, shift = map(torch_tensor, scale_and_shift(*arrays))
            return lambda x: on_values(lambda values: torch.addcmul(shift, values, scale), x)
        if kind == "attention_mean":

            def attention_mean(x):
                x = x.transpose(0, 1)
                scores = torch.softmax(x @ x.transpose(1, 2), dim=-1)
                return (scores.mean(dim=1, keepdim=True) @ x)[:, 0]

            return attention_mean
        kernel, bias = torch_tensor(arrays[0].T), torch_tensor(arrays[1])
        act = {"sigmoid": torch.sigmoid, "softmax": partial(torch.softmax, dim=-1), "linear": lambda y: y}[layer[2]]
        return lambda x: act(torch.nn.functional.linear(x, kernel, bias))

    steps = [step(layer, [a for name, _ in names for a in weights[name]]) for layer, _, names in layer_parts(net)]

    def forward(x):
        with torch.inference_mode():
            for apply in steps:
                x = apply(x)
            return x.numpy()

    return forward
