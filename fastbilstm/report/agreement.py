"""Agreement in `fastbilstm report`: outputs against Keras, the recorded vector and the specification in float64.

Imports Keras only to compare, and only if it is installed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..converted import self_check as vectors
from ..converted import versions
from ..engine import compiling
from ..errors import FastBiLSTMError, InputError
from ..keras import installed_keras
from ..loading import load
from ..tolerances import (
    HALF_RELATIVE,
    IMDB_PROBABILITY,
    MOST_NARROW,
    MOST_ROUNDING,
    ROUNDINGS,
    Comparison,
    compare,
    narrow_error,
)
from .verify import allowed_of_form, fresh, given_to_keras, same_model

if TYPE_CHECKING:
    from ..model import Model

# Rows that are compared with a reference: the specification should take a few seconds.
ROWS, SPECIFICATION_WORK = 64, 2 * 10**10
# Sizes for the free axes of the inputs, tried one after another.
_SIZES = (50, 12, *range(1, 9))
_ADDRESS = re.compile(r"\w+://\S+")
WITHIN, OUT = "within tolerance", "OUT OF TOLERANCE"
# How the names of references begin or end.
RECORDED, LIVE = "the recorded vector", ", run beside it"
BY_VERSION = "differs by the version of Keras"
# In the verdict of an output that narrow weights explain.
ALLOWED = "weights allow"


class Outcome(NamedTuple):
    """One output compared with its reference; every `verdict` except OUT is good."""

    name: str
    comparison: Comparison
    verdict: str


@dataclass(frozen=True)
class Agreement:
    """The outputs compared with one reference.

    `outputs` are Outcomes. `counts[k]` elements have an error between `edges[k]` and `edges[k + 1]` times the largest
    element of their output. `equal` elements have no error. `special` elements are not finite or not numbers: they are
    only compared for equality.
    """

    reference: str
    rows: int
    ok: bool
    outputs: tuple[Outcome, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    equal: int
    special: int
    largest: float
    median: float
    remark: str = ""


def agreements(
    model: Model, source: Model | None, trusted: installed_keras.TrustedFile | None = None
) -> tuple[list[Agreement], list[str]]:
    """Compare with all available references: (list of Agreement, list of sentences on what could not be compared).

    `source` is the Model read from the Keras file, or None; `trusted` names the file if Keras may have it itself.
    """
    found, missing = [], []
    if model.vector is not None:
        recorded = model.vector
        remark = "recorded when the file was converted"
        allowed = _allowed_of_kernels(model, recorded)
        found.append(_agreement(model, recorded, f"{RECORDED}, by {recorded.computed_by}", remark, allowed=allowed))
    try:
        # Of the source: the Keras file may fix the timesteps that the converted one leaves free.
        made = _made(source or model, model)
    except FastBiLSTMError as error:
        missing.append(f"compared on no made-up input, since none fits the model: {error}")
        return found, missing
    if source is None:
        missing.append("not compared with Keras: give the Keras file that the model came from with --against")
    else:
        try:
            title, theirs = installed_keras.run(source.graph, source._tensors, list(made.inputs), trusted)
            live = made.replace(outputs=tuple(theirs), computed_by=title)
            remark = f"made-up input with real padding; Keras was given {given_to_keras(source, trusted)}"
            reference, allowed = f"{title}{LIVE}", allowed_of_form(model)
            one = _agreement(model, live, reference, remark, made, trusted is not None, allowed)
            found.append(one if one.ok else _by_version(one, source, live, title))
        except installed_keras.KerasUnavailable as reason:
            missing.append(f"not compared with Keras: {without_addresses(str(reason))}")
    remark = "shows that the engine computes what fastbilstm's NumPy specification says; no comparison with Keras"
    reference, allowed = "fastbilstm's specification in float64", _allowed_of_kernels(model, model.vector)
    found.append(_agreement(model, made, reference, remark, allowed=allowed))
    return found, missing


def _allowed_of_kernels(model, vector):
    """For each output the error that int8 kernels may make beside the specification; 0 where they do not run."""
    if not vectors.rounds_inputs(model):
        return (0.0,) * len(model.outputs)
    return tuple(map(narrow_error, vector.quantized if vector and vector.quantized else ())) or (
        (MOST_NARROW,) * len(model.outputs)
    )


def without_addresses(text: str) -> str:
    """A text for a page that leads nowhere."""
    return _ADDRESS.sub("(address left out)", text)


def _rows(model):
    """How many rows to compare, from an estimate of the time that the specification takes."""
    shapes = [[size or _SIZES[0] for size in i.shape[1:]] for i in model.graph.inputs]
    steps = max([shape[0] for shape in shapes if shape], default=1)
    most = min(SPECIFICATION_WORK // (model._plan.work * steps), vectors.MAX_INPUT // max(map(math.prod, shapes)))
    return max(3, min(most, ROWS))


def _made(source, model):
    """A vector of many rows; of few for a model that treats the batch axis as another axis and takes no more.

    The graph is that of the source, the weights are those of the model, which may be narrower.
    """
    try:
        return vectors.make(source.graph, model._tensors, _rows(source), _SIZES, exact=True)
    except InputError:
        return vectors.make(source.graph, model._tensors, exact=True)


def check_against(against: str, model: Model, path: str, converted: bool, **options: Any) -> Model:
    """The Model of the Keras file that a converted model came from; refuse any other file."""
    if not converted:
        raise FastBiLSTMError(f"{path}: is a Keras file itself; --against goes with a converted model")
    source = load(against, **options)
    if not same_model(source, model):
        raise FastBiLSTMError(f"{against}: holds other weights or layers than {path}; --against names its Keras file")
    return source


def _agreement(model, vector, reference, remark, exact=None, in_half=True, allowed=None):
    """`in_half`: whether Keras may have computed in half precision, which a model that we built for it does not.

    `allowed`: for each output the error that narrow weights allow, relative to its largest element.
    """
    inputs = list(vector.inputs)
    ours = fresh(model)._plan.run(inputs, {})
    relative, special, outcomes = [], 0, []
    half, rounded = _half(model, vector) if in_half else None, None
    for number, (info, y, k) in enumerate(zip(model.outputs, ours, vector.outputs)):
        dtype = "float64" if model.dtype == "float64" and k.dtype == np.float64 else "float32"
        result = compare(y, k, dtype)
        outcome = Outcome(info.name, result, WITHIN if result.ok else OUT)
        if not result.ok and allowed and result.max_rel <= allowed[number]:
            outcome = outcome._replace(verdict=f"within what {model.weights} {ALLOWED}, {allowed[number]:.2g}")
        elif not result.ok and half is not None and result.max_rel <= HALF_RELATIVE[half]:
            outcome = outcome._replace(verdict=f"within what {half} allows Keras, {HALF_RELATIVE[half]:g}")
        elif not result.ok and exact is not None and _is_nearer(y, k, result, exact.outputs[number]):
            outcome = outcome._replace(verdict="nearer to float64 than Keras is")
        elif not result.ok and dtype == "float32":
            rounded = rounded or _rounded(model, inputs)
            outcome = outcome._replace(verdict=_in_float32(y, result, vector, *rounded[number]))
        outcomes.append(outcome)
        if y.shape != k.shape or "O" in (y.dtype.kind, k.dtype.kind):
            special += k.size
            continue
        y, k = y.astype(np.float64), k.astype(np.float64)
        finite = np.isfinite(y) & np.isfinite(k)
        special += int((~finite).sum())
        peak = np.abs(k[finite]).max(initial=0.0)
        error = np.abs(y[finite] - k[finite])
        relative.append(error / peak if peak else error)
    errors = np.concatenate(relative) if relative else np.zeros(0)
    above = errors[errors > 0]
    edges, counts = _bins(above)
    return Agreement(
        reference,
        len(inputs[0]),
        len(ours) == len(vector.outputs) and all(outcome.verdict != OUT for outcome in outcomes),
        tuple(outcomes),
        edges,
        counts,
        int(errors.size - above.size),
        special,
        float(errors.max(initial=0.0)),
        float(np.median(errors)) if errors.size else 0.0,
        remark,
    )


def _by_version(agreement, source, live, title):
    """The agreement with Keras, good if the version of Keras alone explains why outputs differ."""
    inputs, theirs = list(live.inputs), list(live.outputs)
    reason = versions.difference(source.graph, source._tensors, inputs, theirs, title)
    if reason is None:
        return agreement
    outcomes = (o._replace(verdict=BY_VERSION) if o.verdict == OUT else o for o in agreement.outputs)
    return replace(agreement, ok=True, outputs=tuple(outcomes), remark=f"{agreement.remark}; {reason}")


def _is_nearer(y, k, result, exact):
    """Whether two right float32 engines may differ so, and Keras is the one further from the exact output."""
    if result.max_rel > IMDB_PROBABILITY:
        return False
    return compare(y, exact).ok and compare(y, exact).max_rel <= compare(k, exact).max_rel


def _half(model, vector):
    """The half precision in which Keras computed the outputs of a vector, or None."""
    if vector.computed_by == vectors.SPECIFICATION:
        return None
    notes = model.graph.notes
    return next(
        (n for n in HALF_RELATIVE for mix in ("", "mixed_") if f"dtype policy {mix}{n}: computed in float32" in notes),
        None,
    )


def _rounded(model, inputs):
    """For each output: the specification in float32, and its largest error relative to the largest element."""
    plans = (compiling.compile(model.graph, model._tensors, dtype, "numpy") for dtype in ("float64", "float32"))
    exact, rounded = (plan.run(inputs, {}) for plan in plans)
    return [(b, compare(b, a).max_rel) for a, b in zip(exact, rounded)]


def _in_float32(y, result, vector, rounded, rounding):
    """The verdict of an output outside the tolerance if float32 itself is far from float64."""
    if rounding <= MOST_ROUNDING:
        within = result.max_rel <= ROUNDINGS * rounding
        return f"within {ROUNDINGS} times the rounding of float32 in this model, {rounding:.2e}" if within else OUT
    # The mask differs in float32: it tests for a value that float32 cannot hold, or 1e9 absorbs a score.
    if vector.computed_by == vectors.SPECIFICATION and compare(y, rounded).ok:
        return f"as the specification in float32; float64 differs from it by {rounding:.2e}"
    return OUT


def _bins(errors):
    """(edges, counts of errors between them): 0, then three edges a decade over at most the eight largest decades."""
    if not errors.size:
        return (), ()
    low = max(errors.min(), errors.max() * 1e-8)
    powers = np.arange(np.floor(np.log10(low) * 3) + 1, np.floor(np.log10(errors.max()) * 3) + 2)
    edges = np.concatenate([[0.0], 10.0 ** (powers / 3)])
    place = np.clip(np.searchsorted(edges, errors, side="right") - 1, 0, len(edges) - 2)
    return tuple(map(float, edges)), tuple(map(int, np.bincount(place, minlength=len(edges) - 1)))
