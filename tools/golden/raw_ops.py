"""Golden models of TensorFlowOpLayer, which TensorFlow 1.13 to 2.3 wrote: made by hand, loaded and run by tf_keras."""

from .operations import INPUTS, tensors
from .registry import TF_KERAS, case

_KINDS = {bool: "b", int: "i", float: "f"}
# (op, inputs, attributes, constants by place); FLOAT stands for the dtype of the model.
FLOAT = "DT_FLOAT"
OPS = [
    ("AddV2", "xy", {"T": FLOAT}, {}),
    ("Sub", "x", {"T": FLOAT}, {0: 1.5}),
    ("Mul", "x", {"T": FLOAT}, {1: [0.5, 0.25, -1.0]}),
    ("RealDiv", "xp", {"T": FLOAT}, {}),
    ("FloorMod", "j", {"T": "DT_INT32"}, {1: 3}),
    ("Greater", "x", {"T": FLOAT}, {1: 0.25}),
    ("Sqrt", "p", {"T": FLOAT}, {}),
    ("Mean", "x", {"T": FLOAT, "Tidx": "DT_INT32", "keep_dims": False}, {1: 1}),
    ("Sum", "x", {"T": FLOAT, "Tidx": "DT_INT32", "keep_dims": True}, {1: [1, 2]}),
    ("ConcatV2", "xy", {"T": FLOAT, "Tidx": "DT_INT32", "N": 2}, {2: -1}),
    ("Pack", "xy", {"T": FLOAT, "N": 2, "axis": 1}, {}),
    ("Transpose", "x", {"T": FLOAT, "Tperm": "DT_INT32"}, {1: [0, 2, 1]}),
    ("Reshape", "x", {"T": FLOAT, "Tshape": "DT_INT32"}, {1: [-1, 15]}),
    ("ExpandDims", "x", {"T": FLOAT, "Tdim": "DT_INT32"}, {1: -1}),
    ("Tile", "v", {"T": FLOAT, "Tmultiples": "DT_INT32"}, {1: [1, 2]}),
    ("Softmax", "x", {"T": FLOAT}, {}),
    ("Cast", "i", {"SrcT": "DT_INT32", "DstT": FLOAT, "Truncate": False}, {}),
    ("BatchMatMulV2", "xy", {"T": FLOAT, "adj_x": False, "adj_y": True}, {}),
    ("SelectV2", "m", {"T": FLOAT}, {1: [1.0, 2.0, 3.0, 4.0, 5.0], 2: 0.5}),
    (
        "GatherV2",
        "x",
        {"Tparams": FLOAT, "Tindices": "DT_INT32", "Taxis": "DT_INT32", "batch_dims": 0},
        {1: [2, 0], 2: 1},
    ),
    ("ArgMax", "x", {"T": FLOAT, "Tidx": "DT_INT32", "output_type": "DT_INT64"}, {1: 1}),
    ("Squeeze", "v", {"T": FLOAT, "squeeze_dims": []}, {}),
    ("ReverseV2", "x", {"T": FLOAT, "Tidx": "DT_INT32"}, {1: [1]}),
    ("PadV2", "x", {"T": FLOAT, "Tpaddings": "DT_INT32"}, {1: [[0, 0], [1, 0], [0, 0]], 2: 0.5}),
]
SLICES = [
    ([0, -1], [0, 0], [1, 1], {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}),
    ([0, 1, 0], [0, 4, 2], [1, 2, 1], {"begin_mask": 5, "end_mask": 1}),
    ([0, 0, 0], [0, 0, 0], [1, 1, 1], {"ellipsis_mask": 1, "new_axis_mask": 2, "shrink_axis_mask": 4}),
]
for _begin, _end, _strides, _masks in SLICES:
    _all = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    OPS.append(
        ("StridedSlice", "x", {"T": FLOAT, "Index": "DT_INT32", **_all, **_masks}, {1: _begin, 2: _end, 3: _strides})
    )


def attribute(value):
    if isinstance(value, str):
        return {"type": value}
    return {"list": {"i": value}} if isinstance(value, list) else {_KINDS[type(value)]: value}


def raw(k, text, number, op, given, attributes, constants):
    """The op as a layer of TensorFlow 2.2; `text`: with its NodeDef serialized, as in 2.0."""
    import numpy as np
    from google.protobuf import json_format
    from tensorflow.compat.v1 import NodeDef
    from tf_keras.src.engine.base_layer import TensorFlowOpLayer

    float_type = "DT_DOUBLE" if k.backend.floatx() == "float64" else "DT_FLOAT"
    floats = k.backend.floatx()
    node = {
        "name": f"{op}_{number}",
        "op": op,
        "input": [f"in_{n}" for n in range(len(given) + len(constants))],
        "attr": {name: attribute(float_type if value == FLOAT else value) for name, value in attributes.items()},
    }
    if text:
        node = json_format.ParseDict(node, NodeDef()).SerializeToString().decode("utf-8")
    arrays = {place: np.array(value) for place, value in constants.items()}
    arrays = {n: a.astype(floats if a.dtype.kind == "f" else "int32") for n, a in arrays.items()}
    return TensorFlowOpLayer(node, f"{op}_{number}", arrays)(given)


def model(k, text):
    given = tensors(k)
    outputs = []
    for number, (op, names, attributes, constants) in enumerate(OPS):
        outputs.append(raw(k, text, number, op, [given[name] for name in names], attributes, constants))
    return k.Model(list(given.values()), outputs)


for _text in (False, True):
    case(
        "tfop",
        "raw_text" if _text else "raw",
        "TensorFlowOpLayer with its NodeDef " + ("serialized, as in TensorFlow 2.0" if _text else "as a dictionary"),
        list(INPUTS.values()),
        lambda k, t=_text: model(k, t),
        on=(TF_KERAS,),
        form="h5",
    )
