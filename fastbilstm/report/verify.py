"""`fastbilstm verify`: is a model right? Checks its SHA-256, its recorded vector, and Keras itself if installed.

Imports Keras 3 or tf_keras only to compare. Never gives Keras a file, unless the user says that the file is trusted.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..converted import narrow_error as narrowing
from ..converted import self_check as vectors
from ..converted import versions
from ..errors import FileFormatError
from ..keras import installed_keras
from ..loading import load, narrowed_model
from ..model import Model
from ..tolerances import MOST_NARROW, NARROW_ROOM, compare, narrow_error


@dataclass(frozen=True)
class Report:
    """`ok`, the `text` that says what was compared, and the same as a dict, `data`."""

    ok: bool
    text: str
    data: dict


def verify(path, against=None, config=None, outputs=None, dtype=None, trust=False, lambdas=None, inference=False):
    """Verify a model; see the module's description.

    Parameters
    ----------
    path : str
        A converted or a Keras file.
    against : str, optional
        For a converted file: the Keras file it came from.
    config, outputs, dtype, lambdas, inference
        See `fastbilstm.load`; config, outputs and inference belong to the Keras file.
    trust : bool
        Hand the Keras file itself to Keras, instead of a model built from the layers and weights read from it. This
        runs code from the file, a Lambda's for one, even behind `outputs`: for files that you trust.

    Returns
    -------
    Report
    """
    label = os.fspath(path)
    lines, ok = [], True
    data = {"ok": True, "sha256": None, "vector": None, "same_weights": None, "specification": None, "keras": None}
    data["not_compared"] = None

    def done(good):
        return Report(good, "\n".join(lines), {**data, "ok": good})

    keras_options = {"config": config, "outputs": outputs, "inference": inference}
    model = load(path, dtype=dtype, lambdas=lambdas, **(keras_options if against is None else {}))
    is_converted = model.vector is not None
    data["weights"] = model.weights
    if is_converted:
        lines.append(f"{label}: SHA-256 matches")
        result = model.self_check()
        ok = result.ok
        lines.append(f"recorded vector: {result.message}")
        data |= {"sha256": "matches", "vector": _check_data(result)}
        source, keras_file = None, against
    else:
        if against is not None:
            raise FileFormatError(f"{label}: is a Keras file itself; --against goes with a converted model")
        source, keras_file = model, path
    if keras_file is None:
        data["not_compared"] = "give the Keras file it came from with --against"
        lines.append(f"not compared with Keras: {data['not_compared']}")
        return done(ok)
    if against is not None:
        source = load(against, lambdas=lambdas, **keras_options)
        same = same_model(source, model)
        ok, data["same_weights"] = ok and same, same
        lines.append(f"{against}: {'holds the same weights' if same else 'MISMATCH: holds other weights or layers'}")
    trusted = installed_keras.TrustedFile(keras_file, config, as_list(outputs)) if trust else None
    try:
        compared, good, data["keras"] = _compare_with_keras(source, model, trusted)
        lines += compared
        return done(ok and good)
    except installed_keras.KerasUnavailable as reason:
        data["not_compared"] = str(reason)
        lines.append(f"not compared with Keras: {reason}")
    if not is_converted:
        result = model.self_check()
        ok = ok and result.ok
        lines.append(f"{label}: {result.message}")
        data["specification"] = _check_data(result)
    return done(ok)


def _check_data(result):
    """What a self-check found, as a dict."""
    found = {"ok": result.ok, "computed_by": result.computed_by, "message": result.message}
    return {**found, "max_rel": max((one.max_rel for one in result.comparisons), default=None)}


def same_model(first, second):
    """Whether two models hold the same arrays in the same order; those of the first in the form of the second."""
    if second.weights != first.weights:
        first = narrowed_model(first, second.weights)
    mine, other = first.get_weights(), second.get_weights()
    return len(mine) == len(other) and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(mine, other))


def fresh(model: Model) -> Model:
    """The same model, with weights that are packed anew."""
    return Model(model.graph, model._tensors, dtype=model.dtype, backend=model.backend, weights=model.weights)


def allowed_of_form(model: Model) -> tuple[float, ...]:
    """For each output the error that its weights' form allows beside float32, relative to the largest element."""
    none = 0.0 if model.weights == "float32" else MOST_NARROW
    measured = model.measured[0].relative if model.measured else ()
    return tuple(map(narrow_error, measured)) or (none,) * len(model.outputs)


def _told_of_form(model, ours, theirs):
    """Lines about the tolerance of narrow weights, and the labels that differ from Keras'."""
    yield f"  {model.weights} weights beside Keras' float32; measured at conversion:"
    yield from (f"    {one}" for one in model.measured)
    if not model.measured:
        yield f"    nothing, since the file was not made by convert: allowed is {MOST_NARROW:g} of max|k|"
    else:
        yield f"    allowed is {NARROW_ROOM} times that difference on made-up rows"
    counts = [narrowing.flips(y, k, model.labels is not None) for y, k in zip(ours, theirs)]
    if labels := sum(count for _, count in counts):
        yield f"  {sum(flips for flips, _ in counts)} of {labels} labels differ"


def as_list(outputs: Any) -> Any:
    """`outputs` as `fastbilstm.load` takes it, as a list or None."""
    return [outputs] if isinstance(outputs, str) else outputs


def given_to_keras(source, trusted):
    """What Keras was given, in words; `source` is the Model read from the Keras file."""
    return "the file itself" if trusted else f"the layers and weights read from a file of {source.keras}"


def _compare_with_keras(source, model, trusted):
    # Of the source: the file may fix the timesteps that a converted one leaves free.
    made = vectors.make(source.graph, source._tensors)
    inputs, roundings = list(made.inputs), made.roundings or (0.0,) * len(made.outputs)
    title, theirs = installed_keras.run(source.graph, source._tensors, inputs, trusted)
    ours = fresh(model)._plan.run(inputs, {})
    lines, ok = [f"compared with {title} on {len(inputs[0])} rows, {model.dtype}"], len(ours) == len(theirs)
    lines.append(f"  Keras was given {given_to_keras(source, trusted)}")
    dtype = "float64" if model.dtype == "float64" and theirs[0].dtype == np.float64 else "float32"
    allowed = allowed_of_form(model)
    results = [compare(y, k, dtype, *errors) for y, k, *errors in zip(ours, theirs, roundings, allowed)]
    if model.weights != "float32":
        lines += _told_of_form(model, ours, theirs)
    reason, outputs = None, []
    if ok and not all(result.ok for result in results):
        reason = versions.difference(source.graph, source._tensors, inputs, theirs, title)
    for info, result in zip(model.outputs, results):
        word = "ok" if result.ok else "MISMATCH" if reason is None else "differs by version"
        outputs.append({"name": info.name, "verdict": word, "max_abs": result.max_abs, "max_rel": result.max_rel})
        outputs[-1]["allowed"] = None if model.weights == "float32" else allowed[len(outputs) - 1]
        where = f" at {result.where}" if result.where else ""
        lines.append(
            f"  output {info.name!r}: {word}, largest absolute error "
            f"{result.max_abs:.3g}, relative to max|k| {result.max_rel:.3g}{where}"
        )
        if not result.ok:
            lines.append(f"    {result.message}")
    data = {"version": title, "rows": len(inputs[0]), "outputs": outputs, "differs_by_version": reason}
    if reason is None:
        return lines, ok and all(result.ok for result in results), data
    own = model.self_check()
    lines += [f"  {reason}", f"  {own.message}"]
    return lines, own.ok, data
