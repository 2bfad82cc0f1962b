"""TensorFlow functions called on Keras tensors, as tf.keras writes them (TFOpLambda, SlicingOpLambda) -> operations.

A table: the TensorFlow function, the operation of `layers/` that computes it, the names of its arguments there. Knows
no files and no arrays.
"""

from ..errors import FileFormatError
from ..graph import Constant
from ..layers.base import REGISTRY
from .nodes import Call, Pending, is_reference, pending_in, reference

CLASSES = ("TFOpLambda", "SlicingOpLambda")
CONSTANT = "_CONSTANT_VALUE"
PREFIXES = ("", "math", "linalg", "nn", "__operators__")

# function: "Operation argument argument:its_name_here ..."; the first argument may come without its name.
_TABLE = """
add: Add x:x1 y:x2
add_v2: Add x:x1 y:x2
subtract: Subtract x:x1 y:x2
multiply: Multiply x:x1 y:x2
truediv: TrueDivide x:x1 y:x2
divide: TrueDivide x:x1 y:x2
divide_no_nan: DivideNoNan x:x1 y:x2
floordiv: FloorDivide x:x1 y:x2
floor_div: FloorDivide x:x1 y:x2
floormod: Mod x:x1 y:x2
mod: Mod x:x1 y:x2
pow: Power x:x1 y:x2
maximum: Maximum x:x1 y:x2
minimum: Minimum x:x1 y:x2
squared_difference: SquaredDifference x:x1 y:x2
atan2: Arctan2 y:x1 x:x2
scalar_mul: Multiply scalar:x1 x:x2
bias_add: Add value:x1 bias:x2 data_format
add_n: AddN inputs:xs
equal: Equal x:x1 y:x2
eq: Equal self:x1 other:x2
not_equal: NotEqual x:x1 y:x2
ne: NotEqual self:x1 other:x2
greater: Greater x:x1 y:x2
greater_equal: GreaterEqual x:x1 y:x2
less: Less x:x1 y:x2
less_equal: LessEqual x:x1 y:x2
logical_and: LogicalAnd x:x1 y:x2
logical_or: LogicalOr x:x1 y:x2
logical_xor: LogicalXor x:x1 y:x2
logical_not: LogicalNot x
negative: Negative x
abs: Absolute x
sign: Sign x
square: Square x
sqrt: Sqrt x
rsqrt: Rsqrt x
reciprocal: Reciprocal x
reciprocal_no_nan: ReciprocalNoNan x
exp: Exp x
expm1: Expm1 x
log: Log x
log1p: Log1p x
sin: Sin x
cos: Cos x
tan: Tan x
sinh: Sinh x
cosh: Cosh x
tanh: Tanh x
asin: Arcsin x
acos: Arccos x
atan: Arctan x
asinh: Arcsinh x
acosh: Arccosh x
atanh: Arctanh x
erf: Erf x
erfc: Erfc x
floor: Floor x
ceil: Ceil x
round: Round x
rint: Round x
is_finite: Isfinite x
is_inf: Isinf x
is_nan: Isnan x
sigmoid: Sigmoid x
log_sigmoid: LogSigmoid x
softplus: Softplus features:x
softsign: Softsign features:x
relu: Relu features:x
relu6: Relu6 features:x
elu: Elu features:x
selu: Selu features:x
silu: Silu features:x beta
leaky_relu: LeakyRelu features:x alpha:negative_slope
gelu: Gelu features:x approximate
softmax: Softmax logits:x axis
log_softmax: LogSoftmax logits:x axis
l2_normalize: L2Normalize x axis epsilon
identity: StopGradient input:x
stop_gradient: StopGradient input:x
ensure_shape: StopGradient x shape
clip_by_value: Clip t:x clip_value_min:x_min clip_value_max:x_max
where: Where condition x:x1 y:x2
where_v2: Where condition x:x1 y:x2
cast: Cast x dtype
to_float: Cast x dtype
reduce_sum: Sum input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_mean: Mean input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_max: Max input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_min: Min input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_prod: Prod input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_any: Any input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_all: All input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_logsumexp: Logsumexp input_tensor:x axis keepdims keep_dims:keepdims reduction_indices:axis
reduce_variance: Var input_tensor:x axis keepdims
reduce_std: Std input_tensor:x axis keepdims
reduce_euclidean_norm: Norm input_tensor:x axis keepdims
norm: Norm tensor:x ord axis keepdims keep_dims:keepdims
moments: Moments x axes shift keepdims keep_dims:keepdims
count_nonzero: CountNonzero input:x axis keepdims dtype input_tensor:x keep_dims:keepdims
argmax: Argmax input:x axis output_type dimension:axis
argmin: Argmin input:x axis output_type dimension:axis
cumsum: Cumsum x axis exclusive reverse
cumprod: Cumprod x axis exclusive reverse
sort: Sort values:x axis direction
argsort: Argsort values:x axis direction stable
top_k: TopK input:x k sorted index_type
reshape: Reshape tensor:x shape:newshape
transpose: Transpose a:x perm:axes conjugate
matrix_transpose: MatrixTranspose a:x conjugate
expand_dims: ExpandDims input:x axis dim:axis
squeeze: Squeeze input:x axis squeeze_dims:axis
concat: Concatenate values:xs axis
stack: Stack values:x axis
unstack: Unstack value:x num axis
split: SplitSizes value:x num_or_size_splits:sizes axis num
tile: Tile input:x multiples:repeats
repeat: Repeat input:x repeats axis
pad: Pad tensor:x paddings:pad_width mode constant_values
reverse: Flip tensor:x axis
roll: Roll input:x shift axis
broadcast_to: BroadcastTo input:x shape
slice: Slice input_:inputs begin:start_indices size:shape
getitem: GetItem tensor:x slice_spec:key var
gather: Take params:x indices axis batch_dims validate_indices
gather_nd: GatherNd params:x indices batch_dims bad_indices_policy
one_hot: OneHot indices:x depth:num_classes on_value off_value axis dtype
zeros_like: ZerosLike input:x dtype layout tensor:x optimize
ones_like: OnesLike input:x dtype layout tensor:x optimize
fill: Full dims:shape value:fill_value layout
zeros: Zeros shape dtype layout
ones: Ones shape dtype layout
range: Arange start limit:stop delta:step dtype
shape: Shape input:x out_type:dtype
size: Size input:x out_type:dtype
rank: Rank input:x
sequence_mask: SequenceMask lengths maxlen dtype
band_part: BandPart input:x num_lower num_upper
matmul: Matmul a:x1 b:x2 transpose_a transpose_b adjoint_a:transpose_a adjoint_b:transpose_b a_is_sparse b_is_sparse \
output_type grad_a grad_b
tensordot: Tensordot a:x1 b:x2 axes
einsum: Einsum equation:subscripts
"""


def _read_table():
    table = {}
    for line in _TABLE.replace("\\\n", "").split("\n"):
        if line:
            function, _, rest = line.partition(": ")
            operation, *words = rest.split()
            names = dict((word.split(":") * 2)[:2] for word in words)
            table[function] = (operation, names)
    return table


FUNCTIONS = _read_table()
# Arguments that may be ignored if they have one of these values, or None.
_HARMLESS = {
    "name": ...,
    "validate_indices": ...,
    "optimize": ...,
    "bad_indices_policy": ("",),
    "conjugate": (False,),
    "beta": (1.0, 1),
    "data_format": ("NHWC", "N...C"),
    "a_is_sparse": (False,),
    "b_is_sparse": (False,),
    "grad_a": (False,),
    "grad_b": (False,),
    "num": ...,
    "stable": ...,
}
# Arguments of a function with another default than the operation's, and fixed ones.
_DEFAULTS = {
    "gelu": {"approximate": False},
    "transpose": {"axes": None},
    "split": {"axis": 0},
    "stack": {"axis": 0},
    "concat": {"axis": 0},
    "unstack": {"axis": 0},
    "cumsum": {"axis": 0},
    "cumprod": {"axis": 0},
    "top_k": {"k": 1},
    "argmax": {"axis": 0},
    "argmin": {"axis": 0},
    "to_float": {"dtype": "float32"},
}


def find(function):
    """(operation, {argument: its name here}, defaults) of a TensorFlow function, or None."""
    prefix, _, name = str(function).removeprefix("compat.v1.").rpartition(".")
    if prefix not in PREFIXES or name not in FUNCTIONS:
        return None
    operation, names = FUNCTIONS[name]
    return operation, names, _DEFAULTS.get(name, {})


def read_calls(layer, function, nodes, names, where):
    """Read the inbound nodes of a TensorFlow function.

    Returns
    -------
    (list of Call, list of (str, object, str))
        The calls, and a (option, value, reason) for each thing in a call that is not supported.
    """
    operation, arguments, defaults = find(function)
    calls, problems = [], []
    if not isinstance(nodes, list):
        raise FileFormatError(f"{where}: inbound_nodes is no list")
    for node in nodes:
        first, given = _first_argument(node, names, where)
        given = {next(iter(arguments)): first, **given}
        named = dict(defaults)
        for key, value in given.items():
            here = arguments.get(key)
            if value is None and key not in ("slice_spec",):
                continue
            if key in _HARMLESS:
                if _HARMLESS[key] is not ... and value not in _HARMLESS[key]:
                    problems.append((f"argument {key}", str(value)[:60], "is not supported"))
            elif here is None or (key == "shape" and operation == "StopGradient"):
                if here is None:
                    problems.append((f"argument {key}", str(value)[:60], "is not supported"))
            elif key in ("adjoint_a", "adjoint_b", "keep_dims") and value is False:
                continue
            else:
                named[here] = _argument(operation, here, _value(value, names))
        calls.append(Call(layer, (), named))
    return calls, problems


def unread_calls(layer, nodes, names):
    """The calls of an unsupported function, with the tensors that they use, so that the graph stays complete."""

    def tensors(value):
        if is_reference(value, names):
            return [Pending(*value[:3]), *tensors(value[3:])]
        parts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        return [found for part in parts for found in tensors(part)]

    return [Call(layer, (tensors(node),), {}) for node in nodes or ()]


def _first_argument(node, names, where):
    """The first argument of a call, and the others by name; the config repeats them with each tensor of the first."""
    given = {}

    def read(entry):
        if not isinstance(entry, list):
            raise FileFormatError(f"{where}: its inbound node is {str(node)[:80]}")
        if not entry or not isinstance(entry[0], str):
            return [read(item) for item in entry]
        if len(entry) == 4 and isinstance(entry[3], dict):
            given.update(entry[3])
        if entry[0] == CONSTANT and len(entry) > 2:
            return entry[2]
        return reference(entry, names, where)

    return read(node), given


def _value(value, names):
    """Constants and references inside an argument; slices are dictionaries."""
    if is_reference(value, names) and len(value) == 3:
        return Pending(*value)
    if isinstance(value, list):
        return [_value(item, names) for item in value]
    if isinstance(value, dict):
        if value.get("class_name") == "__ellipsis__":
            return "..."
        if set(value) == {"start", "stop", "step"}:
            return {"slice": [_value(value[part], names) for part in ("start", "stop", "step")]}
        return {key: _value(item, names) for key, item in value.items()}
    return value


def _argument(operation, name, value):
    """Lists of numbers where a tensor belongs become constants."""
    cls = REGISTRY.get("ops." + operation)
    if operation == "Pad" and name == "mode":
        return str(value).lower()
    if name == "pad_width" or cls is None or name not in cls.tensors:
        return value
    if name == "xs" or (operation == "Stack" and name == "x"):
        return [_constant(item) for item in value] if isinstance(value, list) else value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Pending):
        return value[0]
    return _constant(value)


def _constant(value):
    return Constant(value) if isinstance(value, list) and not pending_in(value) else value
