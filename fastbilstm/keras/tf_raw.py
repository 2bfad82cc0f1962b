"""TensorFlow ops as tf.keras of TensorFlow 1.13 to 2.3 writes them (TensorFlowOpLayer) -> operations.

Such a layer holds a NodeDef, as a dictionary or as the text of a serialized message, and the constants among its
inputs by their place. Knows no files and no arrays.
"""

import base64
import struct

from ..errors import FileFormatError
from ..graph import Constant
from .nodes import Call, pending_in, reference

# op: "Operation input input ... | attribute:name_here ..."; "*name" takes all inputs that are left.
_TABLE = """
Add: Add x1 x2
AddV2: Add x1 x2
BiasAdd: Add x1 x2
Sub: Subtract x1 x2
Mul: Multiply x1 x2
RealDiv: TrueDivide x1 x2
DivNoNan: DivideNoNan x1 x2
FloorDiv: FloorDivide x1 x2
FloorMod: Mod x1 x2
Pow: Power x1 x2
Maximum: Maximum x1 x2
Minimum: Minimum x1 x2
SquaredDifference: SquaredDifference x1 x2
AddN: AddN *xs
Equal: Equal x1 x2 | incompatible_shape_error:
NotEqual: NotEqual x1 x2 | incompatible_shape_error:
Greater: Greater x1 x2
GreaterEqual: GreaterEqual x1 x2
Less: Less x1 x2
LessEqual: LessEqual x1 x2
LogicalAnd: LogicalAnd x1 x2
LogicalOr: LogicalOr x1 x2
LogicalNot: LogicalNot x
Neg: Negative x
Abs: Absolute x
Sign: Sign x
Square: Square x
Sqrt: Sqrt x
Rsqrt: Rsqrt x
Reciprocal: Reciprocal x
Inv: Reciprocal x
Exp: Exp x
Expm1: Expm1 x
Log: Log x
Log1p: Log1p x
Sin: Sin x
Cos: Cos x
Tanh: Tanh x
Sigmoid: Sigmoid x
Softplus: Softplus x
Softsign: Softsign x
Relu: Relu x
Relu6: Relu6 x
Elu: Elu x
Selu: Selu x
LeakyRelu: LeakyRelu x | alpha:negative_slope
Softmax: Softmax x
LogSoftmax: LogSoftmax x
Erf: Erf x
Floor: Floor x
Ceil: Ceil x
Round: Round x
Rint: Round x
IsNan: Isnan x
IsInf: Isinf x
IsFinite: Isfinite x
Identity: StopGradient x
StopGradient: StopGradient x
ClipByValue: Clip x x_min x_max
SelectV2: Where condition x1 x2
Cast: Cast x | DstT:dtype Truncate:
Sum: Sum x axis | keep_dims:keepdims
Mean: Mean x axis | keep_dims:keepdims
Max: Max x axis | keep_dims:keepdims
Min: Min x axis | keep_dims:keepdims
Prod: Prod x axis | keep_dims:keepdims
Any: Any x axis | keep_dims:keepdims
All: All x axis | keep_dims:keepdims
ArgMax: Argmax x axis | output_type:output_type
ArgMin: Argmin x axis | output_type:output_type
Cumsum: Cumsum x axis | exclusive:exclusive reverse:reverse
Cumprod: Cumprod x axis | exclusive:exclusive reverse:reverse
TopKV2: TopK x k | sorted:sorted index_type:index_type
Reshape: Reshape x newshape
Transpose: Transpose x axes
ExpandDims: ExpandDims x axis
Squeeze: Squeeze x | squeeze_dims:axis
ConcatV2: Concatenate *xs axis
Pack: Stack *x | axis:axis
Unpack: Unstack x | axis:axis
Split: SplitSizes axis x | num_split:sizes
SplitV: SplitSizes x sizes axis
Tile: Tile x repeats
Pad: Pad x pad_width
PadV2: Pad x pad_width constant_values
ReverseV2: Flip x axis
Roll: Roll x shift axis
BroadcastTo: BroadcastTo x shape
Slice: Slice inputs start_indices shape
StridedSlice: GetItem x begin end strides | begin_mask:begin_mask end_mask:end_mask ellipsis_mask:ellipsis_mask \
new_axis_mask:new_axis_mask shrink_axis_mask:shrink_axis_mask
GatherV2: Take x indices axis | batch_dims:batch_dims
GatherNd: GatherNd x indices
OneHot: OneHot x num_classes on_value off_value | axis:axis T:dtype
ZerosLike: ZerosLike x
OnesLike: OnesLike x
Fill: Full shape fill_value
Range: Arange start stop step
Shape: Shape x | out_type:dtype
MatMul: Matmul x1 x2 | transpose_a:transpose_a transpose_b:transpose_b
BatchMatMul: Matmul x1 x2 | adj_x:transpose_a adj_y:transpose_b
BatchMatMulV2: Matmul x1 x2 | adj_x:transpose_a adj_y:transpose_b
Einsum: Einsum *operands | equation:subscripts
MatrixBandPart: BandPart x num_lower num_upper
"""
_TYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool"}
_NAMES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_UINT8": "uint8", "DT_BOOL": "bool"}
_NAMES.update({f"DT_INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)})
# Arguments that are tensors even if the file has numbers.
_TENSORS = ("x", "x1", "x2", "condition", "indices", "constant_values", "fill_value")


def _read_table():
    table = {}
    for line in _TABLE.replace("\\\n", "").split("\n"):
        if line:
            op, _, rest = line.partition(": ")
            inputs, _, attributes = rest.partition(" | ")
            operation, *names = inputs.split()
            table[op] = (operation, names, dict(word.split(":") for word in attributes.split()))
    return table


OPS = _read_table()


def find(config, where):
    """(op, operation or None) of a TensorFlowOpLayer's config."""
    op = _node(config, where)["op"]
    return op, OPS.get(op, (None,))[0]


def read_calls(layer, config, nodes, names, where):
    """Read the inbound nodes; see tf_ops.read_calls."""
    node = _node(config, where)
    _, inputs, attributes = OPS[node["op"]]
    given, problems = _attributes(node, attributes)
    constants = config.get("constants") or {}
    calls = []
    for entries in nodes if isinstance(nodes, list) else ():
        entries = [entries] if entries and isinstance(entries[0], str) else entries
        tensors = [reference(entry, names, where) for entry in entries]
        for place in sorted(constants, key=int):
            tensors.insert(int(place), constants[place])
        named = {**given, **_named(inputs, tensors, where)}
        if node["op"] == "StridedSlice":
            named = {"x": named["x"], "key": _key(named, where)}
        calls.append(Call(layer, (), named))
    return calls, problems


def _named(inputs, tensors, where):
    """Names for the inputs, one of which may take several."""
    several = next((k for k, name in enumerate(inputs) if name.startswith("*")), None)
    if several is not None:
        stop = len(tensors) - (len(inputs) - 1 - several)
        tensors = [*tensors[:several], [_constant(t) for t in tensors[several:stop]], *tensors[stop:]]
    if len(tensors) != len(inputs):
        raise FileFormatError(f"{where}: its op has {len(tensors)} inputs; expected {len(inputs)}")
    named = {name.lstrip("*"): value for name, value in zip(inputs, tensors)}
    return {name: _constant(value) if name in _TENSORS else value for name, value in named.items()}


def _constant(value):
    return Constant(value) if isinstance(value, list) and not pending_in(value) else value


def _attributes(node, attributes):
    given, problems = {}, []
    for name, value in (node.get("attr") or {}).items():
        value = _value(value)
        if attributes.get(name):
            given[attributes[name]] = value
        elif name == "data_format":
            if value not in ("NHWC", None):
                problems.append((name, value, "is not supported"))
        elif name not in attributes and not _is_type(value) and not name.startswith("_") and name not in ("N", "num"):
            if name not in ("num_split", "Tshape", "batch_dims", "shape") or value:
                problems.append((name, str(value)[:60], "is not known to fastbilstm"))
    return given, problems


def _is_type(value):
    return value in _TYPES.values() or value in _NAMES.values()


def _value(value):
    """The value of an attribute, from {"i": "3"}, {"b": true}, {"list": {"i": ["1"]}} and the like."""
    if not isinstance(value, dict) or not value:
        return None
    ((kind, content),) = value.items()
    if kind == "list":
        return [_value({key: item}) for key, items in content.items() for item in items]
    if kind == "s":
        return _text(content)
    return {"i": int, "type": lambda t: _NAMES.get(t, str(t)), "f": float, "b": bool}.get(kind, str)(content)


def _text(content):
    return (content if isinstance(content, bytes) else base64.b64decode(content)).decode("utf-8", "replace")


def _key(named, where):
    """The key of x[...] from begin, end, strides and the masks of a StridedSlice."""
    begin, end, strides = (named[name] for name in ("begin", "end", "strides"))
    if not all(isinstance(part, list) for part in (begin, end, strides)):
        raise FileFormatError(f"{where}: a slice whose bounds are tensors is not supported")

    def bit(mask, k):
        return bool(named.get(f"{mask}_mask", 0) >> k & 1)

    keys = []
    for k, (start, stop, step) in enumerate(zip(begin, end, strides)):
        if bit("ellipsis", k):
            keys.append("...")
        elif bit("new_axis", k):
            keys.append(None)
        elif bit("shrink_axis", k):
            keys.append(start)
        else:
            keys.append({"slice": [None if bit("begin", k) else start, None if bit("end", k) else stop, step]})
    return keys


# ---- NodeDef as a serialized message --------------------------------------------------------------------------------


def _node(config, where):
    node = config.get("node_def")
    if isinstance(node, str):
        try:
            node = _parse_node(node.encode("utf-8"))
        except (IndexError, ValueError, struct.error, UnicodeDecodeError) as error:
            raise FileFormatError(f"{where}: its node_def is no NodeDef ({error})") from error
    if not isinstance(node, dict) or not isinstance(node.get("op"), str):
        raise FileFormatError(f"{where}: its node_def names no op")
    return node


def _fields(data):
    """(number, value) of the fields of a protocol buffer message; ints, or bytes."""
    place = 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or (varint() if kind == 2 else None)
        if size is None or place + size > len(data):
            raise ValueError("a field of unknown kind or size")
        yield key >> 3, data[place : place + size]
        place += size


def _signed(value):
    return value - (1 << 64) if value >> 63 else value


def _parse_node(data):
    node = {"op": None, "attr": {}}
    for number, value in _fields(data):
        if number == 2:
            node["op"] = value.decode()
        elif number == 5:
            entry = dict(_fields(value))
            node["attr"][entry[1].decode()] = _parse_attribute(entry.get(2, b""))
    return node


def _parse_attribute(data):
    for number, value in _fields(data):
        if number == 1:
            whole = [part for n, part in _fields(value) if n == 3]
            packed = b"".join(part for part in whole if isinstance(part, bytes))
            # Packed numbers follow each other without keys.
            numbers = [part for part in whole if isinstance(part, int)]
            while packed:
                size = next(k for k, byte in enumerate(packed) if byte < 128) + 1
                numbers.append(sum((byte & 127) << 7 * k for k, byte in enumerate(packed[:size])))
                packed = packed[size:]
            return {"list": {"i": [_signed(part) for part in numbers]}}
        if number == 2:
            return {"s": value}
        if number == 3:
            return {"i": _signed(value)}
        if number == 4:
            return {"f": struct.unpack("<f", value)[0]}
        if number == 5:
            return {"b": bool(value)}
        if number == 6:
            return {"type": _TYPES.get(value, str(value))}
    return {}
