"""The agreement in `fastbilstm report`: outputs against Keras, the recorded vector and the specification in float64.

Imports Keras only to compare, and only where it is installed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..converted import self_check as vectors
from ..engine import plan as planning
from ..errors import FastBiLSTMError, InputError
from ..keras import installed_keras
from ..loading import load
from ..model import Model
from ..tolerances import HALF_RELATIVE, IMDB_PROBABILITY, Comparison, compare
from .verify import given_to_keras, same_model

# Rows compared with a reference: as many as take the specification a few seconds.
ROWS, SPECIFICATION_WORK = 64, 2 * 10**10
# Sizes of free axes in the inputs compared, tried one after another.
_SIZES = (50, 12, *range(1, 9))
_ADDRESS = re.compile(r"\w+://\S+")
WITHIN, OUT = "within tolerance", "OUT OF TOLERANCE"
# Some models magnify rounding errors: two right answers in float32 differ by more than the tolerance. An output may be
# so many times further away than NumPy in float32 is from float64, as long as that is little.
ROUNDINGS, MOST_ROUNDING = 4, 1e-3


class Outcome(NamedTuple):
    """One output against its reference; every `verdict` but OUT is good."""

    name: str
    comparison: Comparison
    verdict: str


@dataclass(frozen=True)
class Agreement:
    """Outputs against one reference.

    `outputs` are Outcomes. `counts[k]` elements have an error between `edges[k]` and `edges[k + 1]` times the largest
    element of their output; `equal` have none, `special` are no finite numbers or no numbers and compared as equal or
    not.
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
    """Compare with all references there are: (list of Agreement, list of sentences on what could not be compared).

    `source` is the Model read from the Keras file, or None; `trusted` names the file if Keras may have it itself.
    """
    found, missing = [], []
    if model.vector is not None:
        recorded = model.vector
        remark = "recorded when the file was converted"
        found.append(_agreement(model, recorded, f"the recorded vector, by {recorded.computed_by}", remark))
    try:
        made = _made(model)
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
            found.append(_agreement(model, live, f"{title}, run beside it", remark, made, trusted is not None))
        except installed_keras.KerasUnavailable as reason:
            missing.append(f"not compared with Keras: {_ADDRESS.sub('(address left out)', str(reason))}")
    remark = "shows that the engine computes what fastbilstm's NumPy specification says; no comparison with Keras"
    found.append(_agreement(model, made, "fastbilstm's specification in float64", remark))
    return found, missing


def _rows(model):
    """How many rows to compare: what the specification costs is known before it runs."""
    shapes = [[size or _SIZES[0] for size in i.shape[1:]] for i in model.graph.inputs]
    steps = max([shape[0] for shape in shapes if shape], default=1)
    most = min(SPECIFICATION_WORK // (model._plan.work * steps), vectors.MAX_INPUT // max(map(math.prod, shapes)))
    return max(3, min(most, ROWS))


def _made(model):
    """A vector of many rows, or of few for a model that takes no more: it reads the batch axis as another."""
    try:
        return vectors.make(model.graph, model._tensors, _rows(model), _SIZES, exact=True)
    except InputError:
        return vectors.make(model.graph, model._tensors, exact=True)


def check_against(against: str, model: Model, path: str, **options: Any) -> Model:
    """The Model of the Keras file that a converted model came from; refuse any other."""
    if model.vector is None:
        raise FastBiLSTMError(f"{path}: is a Keras file itself; --against goes with a converted model")
    source = load(against, **options)
    if not same_model(source, model):
        raise FastBiLSTMError(f"{against}: holds other weights or layers than {path}; --against names its Keras file")
    return source


def _agreement(model, vector, reference, remark, exact=None, in_half=True):
    """`in_half`: whether Keras may have computed the vector in half precision; a model that we built for it did not."""
    inputs = list(vector.inputs)
    ours = Model(model.graph, model._tensors, dtype=model.dtype, backend=model.backend)._plan.run(inputs, {})
    relative, special, outcomes = [], 0, []
    half, rounded = _half(model, vector) if in_half else None, None
    for number, (info, y, k) in enumerate(zip(model.outputs, ours, vector.outputs)):
        dtype = "float64" if model.dtype == "float64" and k.dtype == np.float64 else "float32"
        result = compare(y, k, dtype)
        outcome = Outcome(info.name, result, WITHIN if result.ok else OUT)
        if not result.ok and half is not None and result.max_rel <= HALF_RELATIVE[half]:
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


def _is_nearer(y, k, result, exact):
    """Whether the distance from Keras is what two right engines in float32 may have, and Keras is the further one."""
    if result.max_rel > IMDB_PROBABILITY:
        return False
    return compare(y, exact).ok and compare(y, exact).max_rel <= compare(k, exact).max_rel


def _half(model, vector):
    """The half precision that Keras computed the outputs of a vector in, or None."""
    if vector.computed_by == vectors.SPECIFICATION:
        return None
    notes = model.graph.notes
    return next(
        (n for n in HALF_RELATIVE for mix in ("", "mixed_") if f"dtype policy {mix}{n}: computed in float32" in notes),
        None,
    )


def _rounded(model, inputs):
    """For each output, what NumPy gives in float32, and how far that is from float64 over the largest element."""
    plans = (planning.compile(model.graph, model._tensors, dtype, "numpy") for dtype in ("float64", "float32"))
    exact, rounded = (plan.run(inputs, {}) for plan in plans)
    return [(b, compare(b, a).max_rel) for a, b in zip(exact, rounded)]


def _in_float32(y, result, vector, rounded, rounding):
    """The verdict of an output out of the tolerance, where float32 itself is far from float64."""
    if rounding <= MOST_ROUNDING:
        within = result.max_rel <= ROUNDINGS * rounding
        return f"within {ROUNDINGS} times the rounding of float32 in this model, {rounding:.2e}" if within else OUT
    # A mask that is another one in float32: of a value that it does not hold, or 1e9 that takes up a score.
    if vector.computed_by == vectors.SPECIFICATION and compare(y, rounded).ok:
        return f"as the specification in float32; float64 differs from it by {rounding:.2e}"
    return OUT


def _bins(errors):
    """Edges a third of a decade apart, eight decades down from the largest, then 0; how many errors lie between."""
    if not errors.size:
        return (), ()
    low = max(errors.min(), errors.max() * 1e-8)
    powers = np.arange(np.floor(np.log10(low) * 3) + 1, np.floor(np.log10(errors.max()) * 3) + 2)
    edges = np.concatenate([[0.0], 10.0 ** (powers / 3)])
    place = np.clip(np.searchsorted(edges, errors, side="right") - 1, 0, len(edges) - 2)
    return tuple(map(float, edges)), tuple(map(int, np.bincount(place, minlength=len(edges) - 1)))
