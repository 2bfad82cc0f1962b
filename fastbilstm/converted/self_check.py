"""The self-check vector of a converted model: inputs, outputs and what computed them. Imports NumPy only."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..engine import compiling
from ..errors import FileFormatError, InputError
from ..graph import flatten_refs
from ..layers import Functional
from ..layers.core import Masking
from ..layers.lookup import Lookup
from ..layers.multihead import MultiHeadAttention
from ..layers.text import TextVectorization
from ..tolerances import MOST_NARROW, MOST_ROUNDING, Comparison, compare, narrow_error
from .fbl_file import Vector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ..engine.plan import Plan
    from ..graph import Graph

SPECIFICATION, ROUNDED = "fastbilstm-spec-float64", "fastbilstm-spec-float32"
# Sizes tried for free axes: one that shows padding, then small ones, for axes that must agree with a fixed one.
_FREE_SIZES = (12, *range(1, 9))
_ROWS = 3
# Factors of made-up floats, tried while rounding errors are magnified; room that another float32 engine needs.
_SCALES = (1, 0.25, 0.0625)
_ROOM = 4
# Nets with weights moved by a rounding, whose errors are measured.
_NETS = 4
# Rows on which errors of narrow weights are measured.
_MANY_ROWS = 64
# Numbers in one made-up input: 400 MB, which no sequence model needs.
MAX_INPUT = 50_000_000


@dataclass(frozen=True)
class Check:
    """Outcome of `check`.

    Attributes
    ----------
    ok : bool
        Whether all outputs are within the tolerance; the truth of the object, too.
    computed_by : str
        What the expected numbers came from; see `Vector`.
    comparisons : tuple of Comparison
        One for each output.
    """

    ok: bool
    computed_by: str
    comparisons: tuple[Comparison, ...]

    def __bool__(self) -> bool:
        return self.ok

    @property
    def message(self) -> str:
        """The outcome in a sentence; a vector of our own specification proves consistency only."""
        worst = max(self.comparisons, key=lambda c: (not c.ok, c.max_rel), default=None)
        detail = worst.message if worst is not None else "no output"
        if self.computed_by in (SPECIFICATION, ROUNDED):
            detail += " (self-consistency only, not compared with Keras)"
        return f"{'ok' if self.ok else 'MISMATCH'} against {self.computed_by}: {detail}"


def _make_inputs(
    graph: Graph,
    id_limits: Sequence[int | None],
    mask_values: Sequence[float],
    free: int,
    padded: bool = True,
    readers: Sequence[Any] = (),
    rows: int = _ROWS,
) -> list[NDArray[Any]]:
    """Random inputs that fit a graph (fixed seed): ids in range, floats N(0, 1), and rows with padding.

    Axes of free size get the size `free`.

    Returns
    -------
    list of ndarray
        One for each input, of `rows` rows (or the fixed batch size): un-padded, pre-padded and post-padded in turn, a
        third of the timesteps in the first three and any number of them in the rest.
    """
    rng = np.random.default_rng(0)
    arrays = []
    shapes = [given.shape or () for given in graph.inputs]
    batch = next((sizes[0] for sizes in shapes if sizes[0]), rows)
    array: NDArray[Any]
    for number, (given, sizes, limit) in enumerate(zip(graph.inputs, shapes, id_limits)):
        shape = (batch, *(free if size is None else size for size in sizes[1:]))
        if math.prod(shape) > MAX_INPUT:
            raise FileFormatError(f"input {given.name!r} has shape {given.shape}: too large for a self-check vector")
        tokens = readers[number].table().tokens if readers and readers[number] else []
        if given.dtype == "string":
            array = _phrases(rng, shape, tokens, free if isinstance(readers[number], TextVectorization) else 1)
        elif tokens:
            array = rng.choice(np.array(tokens, np.int64), shape)
        elif limit is not None:
            array = rng.integers(min(1, limit - 1), limit, shape)
        elif given.dtype.startswith(("int", "uint")):
            array = rng.integers(0, 2, shape)
        elif given.dtype == "bool":
            array = rng.integers(0 if padded else 1, 2, shape).astype(bool)
        else:
            array = rng.standard_normal(shape).astype(np.float32)
        if padded and array.dtype != object and len(shape) > 1 and (limit is not None or len(shape) > 2):
            value = 0 if limit is not None or not mask_values else mask_values[0]
            for row in range(batch):
                padding = shape[1] // 3 if row < _ROWS else rng.integers(0, shape[1])
                if row % 3 == 1:
                    array[row, :padding] = value
                elif row % 3 == 2:
                    array[row, shape[1] - padding :] = value
        arrays.append(array)
    return arrays


def _phrases(
    rng: np.random.Generator, shape: tuple[int, ...], tokens: list[bytes], longest: int
) -> NDArray[np.object_]:
    """Phrases of up to `longest` words of a vocabulary."""
    tokens = [token for token in tokens if b"\0" not in token] or [b"word"]
    count = int(np.prod(shape))
    lengths = rng.integers(1, longest + 1, count) if longest > 1 else np.ones(count, int)
    strings = np.empty(count, object)
    strings[:] = [b" ".join(tokens[k] for k in rng.integers(0, len(tokens), length)) for length in lengths]
    return strings.reshape(shape)


def _lookups(network: Functional) -> list[Any]:
    """For each input a lookup layer that reads it directly, here or in a model inside; None if there is none."""
    found = [None] * len(network.graph.inputs)
    for node in network.graph.nodes:
        layer = network.inner[node.layer]
        readers: Sequence[Any] = (layer,) if isinstance(layer, Lookup) and not getattr(layer, "invert", False) else ()
        if isinstance(layer, Functional):
            readers = _lookups(layer)
        for ref, reader in zip(flatten_refs(node.args), readers):
            if ref.node < len(found) and reader is not None:
                found[ref.node] = reader
    return found


def _is_unsteady_where_masked(plan: Plan) -> bool:
    """tf.keras takes 1e9 off masked scores: where a query has no key at all, float32 loses what float64 keeps."""
    found = (layer for layer in compiling.layers_of(plan.network) if isinstance(layer, MultiHeadAttention))
    return any(not layer.version.is_keras3 and not layer.softmax_robust_masking for layer in found)


def made_inputs(plan: Plan, rows: int = _ROWS, sizes: Sequence[int] = _FREE_SIZES) -> Iterator[list[NDArray[Any]]]:
    """Yield candidates for inputs of a compiled model, lists of arrays of `rows` rows (or the fixed batch size).

    `sizes` are tried for free axes, one after another. Not every candidate fits every model: the model says.
    """
    values = [layer.mask_value for layer in compiling.layers_of(plan.network) if isinstance(layer, Masking)]
    padded, readers = not _is_unsteady_where_masked(plan), _lookups(plan.network)
    for free in sizes:
        inputs = _make_inputs(plan.network.graph, plan.id_limits, values, free, padded, readers, rows)
        yield inputs
        # Token ids that pass other layers on their way to an Embedding: 0 and 1 are good ids nearly everywhere.
        yield [a if a.dtype == object else np.abs(np.rint(a)) % 2 for a in inputs]


def make(
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    rows: int = _ROWS,
    sizes: Sequence[int] = _FREE_SIZES,
    exact: bool = False,
) -> Vector:
    """Make a vector with the outputs of the specification in float64; InputError if no made-up input fits.

    Unless `exact`: where a model in float32 magnifies rounding errors, smaller floats are tried, and it is noted by how
    much. Where float32 gives other answers (a mask of a value that it does not hold, say) these are taken.
    """
    plan = compiling.compile(graph, tensors, "float64", "numpy")
    first_error: InputError | None = None
    for inputs in made_inputs(plan, rows, sizes):
        try:
            outputs = plan.run(inputs, {})
        except InputError as error:
            first_error = first_error or error
            continue
        if graph.dtype != "float32" or exact:
            return Vector(tuple(inputs), tuple(outputs), SPECIFICATION)
        return _in_float32(plan, graph, tensors, inputs, outputs)
    assert first_error is not None  # there is a candidate for each size
    raise first_error


def _in_float32(
    plan: Plan,
    graph: Graph,
    tensors: Mapping[str, NDArray[Any]],
    inputs: list[NDArray[Any]],
    outputs: Sequence[NDArray[Any]],
) -> Vector:
    """The vector of a model that runs in float32, from its first made-up inputs and their outputs in float64.

    One answer in float32 may be near by luck. Where it is not far within the tolerance, the largest of several errors
    counts: those of nets whose weights are moved by one rounding at most, as another order of additions moves sums.
    """
    rounded_plan = compiling.compile(graph, tensors, "float32", "numpy")
    found: list[Vector] = []
    first = None
    masks = (layer.mask_value for layer in compiling.layers_of(plan.network) if isinstance(layer, Masking))
    values = [np.float32(value) for value in masks]
    for scale in _SCALES:
        if scale != 1:
            # What is masked stays masked.
            scaled = [np.where(np.isin(a, values), a, a * np.float32(scale)) if _is_float(a) else a for a in inputs]
            if not any(map(_is_float, inputs)):
                break
            inputs, outputs = scaled, plan.run(scaled, {})
        rounded = rounded_plan.run(inputs, {})
        if _are_near(rounded, outputs):
            return Vector(tuple(inputs), tuple(outputs), SPECIFICATION)
        first = first or (inputs, rounded)
        if max(compare(y, k).max_rel for y, k in zip(rounded, outputs)) <= MOST_ROUNDING:
            roundings = _roundings([rounded, *_moved_answers(graph, tensors, inputs)], outputs)
            found.append(Vector(tuple(inputs), tuple(outputs), SPECIFICATION, roundings))
    if found:
        return min(found, key=lambda vector: max(vector.roundings))
    assert first is not None  # there is a scale
    inputs, rounded = first
    roundings = _roundings(_moved_answers(graph, tensors, inputs), rounded)
    return Vector(tuple(inputs), tuple(rounded), ROUNDED, roundings)


def _roundings(answers: Sequence[Sequence[NDArray[Any]]], outputs: Sequence[NDArray[Any]]) -> tuple[float, ...]:
    """For `Vector.roundings`: of each output the largest error of all answers; () where all are near."""
    if all(_are_near(answer, outputs) for answer in answers):
        return ()
    errors = [max(compare(answer[n], k).max_rel for answer in answers) for n, k in enumerate(outputs)]
    return tuple(min(error, MOST_ROUNDING) for error in errors)


def _moved_answers(
    graph: Graph, tensors: Mapping[str, NDArray[Any]], inputs: list[NDArray[Any]]
) -> list[list[NDArray[Any]]]:
    """What nets with weights moved by a rounding answer in float32; one of them is in memory at a time."""
    seeds = range(_NETS)
    return [compiling.compile(graph, _moved(tensors, seed), "float32", "numpy").run(inputs, {}) for seed in seeds]


def _moved(tensors: Mapping[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """The float32 weights, each as it is or one rounding up or down."""
    rng, step = np.random.default_rng(seed), np.finfo(np.float32).eps
    return {
        name: array * (1 + step * rng.integers(-1, 2, array.shape, np.int8)).astype(np.float32)
        if array.dtype == np.float32
        else array
        for name, array in tensors.items()
    }


def _is_float(array: NDArray[Any]) -> bool:
    return array.dtype == np.float32


def _are_near(answer: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> bool:
    """Whether all outputs are within the tolerance by a factor that leaves room for another order of additions."""
    return all(compare(y, k).ok and _is_far_within(y, k) for y, k in zip(answer, outputs))


def _is_far_within(y: NDArray[Any], k: NDArray[Any]) -> bool:
    """Whether an output is within the tolerance by a factor that leaves room for another order of additions."""
    if y.dtype.kind != "f" or k.dtype.kind != "f":
        return True
    return compare(k + _ROOM * (y.astype(np.float64) - k), k).ok if np.isfinite(k).all() else True


def check(model: Any, vector: Vector) -> Check:
    """Run a vector through a model and compare by the project's tolerance for the model's dtype.

    Of int8 weights the specification is compared by it, which finds a single wrong weight; then the model as it runs,
    by what was measured at conversion.
    """
    if not rounds_inputs(model):
        return _compared(model, model._plan, vector)
    found = _compared(model, compiling.compile(model.graph, model._tensors, model.dtype, "numpy"), vector)
    errors = vector.quantized or (MOST_NARROW,) * len(vector.outputs)
    return _compared(model, model._plan, vector, tuple(map(narrow_error, errors))) if found else found


def _compared(model: Any, plan: Plan, vector: Vector, at_least: Sequence[float] | None = None) -> Check:
    """A plan of a model beside a vector; `at_least`: an error that is allowed, for each output that has floats."""
    outputs = plan.run(list(vector.inputs), {})
    dtype: Literal["float32", "float64"] = (
        model.dtype if vector.outputs and vector.outputs[0].dtype == np.float64 else "float32"
    )
    none = (0.0,) * len(outputs)
    pairs = zip(outputs, vector.outputs, vector.roundings or none, at_least or none)
    found = tuple(
        compare(y, k, dtype, rounding, least) for y, k, rounding, least in pairs if at_least is None or _is_real(k)
    )
    return Check(all(c.ok for c in found) and len(outputs) == len(vector.outputs), vector.computed_by, found)


def _is_real(array: NDArray[Any]) -> bool:
    """Whether small errors leave small differences: numbers of classes, booleans and strings are right or wrong."""
    return array.dtype.kind == "f"


def rounds_inputs(model: Any) -> bool:
    """Whether a model runs on int8 kernels, which round what they multiply."""
    runs: bool = model.weights == "int8" and model.backend == "vector"
    return runs


def many_rows(model: Any) -> list[NDArray[Any]]:
    """Made-up inputs of many rows; of few, where a model treats the batch axis as another axis or rows are large."""
    for rows in (_MANY_ROWS, _ROWS):
        with contextlib.suppress(FileFormatError):
            for inputs in made_inputs(model._plan, rows):
                with contextlib.suppress(InputError):
                    model._plan.run(inputs, {})
                    return inputs
    raise InputError(f"{model.source}: no made-up input fits the model")


def with_int8_errors(vector: Vector, model: Any) -> Vector:
    """The vector of a model, with the errors of int8 kernels where it runs on them: of more rows than it holds.

    Raises
    ------
    InputError
        If they take an output further than `tolerances.MOST_NARROW` of its largest element.
    """
    if not rounds_inputs(model):
        return vector
    # Float32 kernels with the same weights stand for the specification, whose rounding errors are far smaller.
    floats = compiling.compile(model.graph, model._tensors, model.dtype, model.backend)
    x = many_rows(model)
    pairs: list[tuple[Any, Any]] = [(model._plan.run(list(vector.inputs), {}), vector.outputs)]
    pairs.append((model._plan.run(x, {}), floats.run(x, {})))
    found = [[compare(y, k).max_rel if _is_real(k) else 0.0 for y, k in zip(*pair)] for pair in pairs]
    errors = tuple(map(max, *found))
    if max(errors, default=0.0) > MOST_NARROW:
        raise InputError(
            f"{model.source}: int8 kernels take an output {max(errors):.3g} times its largest element away from what "
            "its weights say: weights='int8' does not suit this model; take 'bfloat16' or 'float16'"
        )
    return vector.replace(quantized=errors)
