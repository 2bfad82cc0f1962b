"""A model's answer to a whole sequence, given in pieces: for tests that compare it with `predict`."""

import numpy as np

from fastbilstm import InputError
from fastbilstm.analysis import padding
from fastbilstm.inputs.model_input import by_input
from fastbilstm.tolerances import compare


def listed(y):
    return list(y.values()) if isinstance(y, dict) else list(y) if isinstance(y, list | tuple) else [y]


def pieces(timesteps, sizes):
    """Slices that cover the timesteps."""
    start = 0
    while start < timesteps:
        size = next(sizes)
        yield slice(start, min(start + size, timesteps))
        start += size


def push_all(stream, inputs, sizes):
    """(list of answers, each a list of outputs; the number of timesteps answered with each)."""
    arrays = inputs if isinstance(inputs, list) else [inputs]
    answers, ends = [], []
    for part in pieces(arrays[0].shape[1], sizes):
        given = [array[:, part] for array in arrays]
        answers.append(listed(stream.push(given if isinstance(inputs, list) else given[0])))
        ends.append(part.stop)
    return answers, ends


def joined(stream, answers):
    """The outputs of the whole sequence: rows put together, or the last answer so far."""
    return [
        np.concatenate([answer[k] for answer in answers], axis=1) if kind == "stream" else answers[-1][k]
        for k, kind in enumerate(stream._kinds)
    ]


def same(ours, theirs, model, label=""):
    """To the bit where the engine computes every layer, else by the project's tolerances."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, label
        if model.backend == "vector" and "numpy" not in padding._labels(model._plan.runner):
            np.testing.assert_array_equal(a, b, err_msg=label)
        else:
            assert compare(a, b, model.dtype).ok, label


def check(model, inputs, label=""):
    """Compare pieces of several sizes with the whole; the reason (str) if the model, and None if the input, cannot be
    streamed; True if it was compared.
    """
    arrays = [np.asarray(array) for array in by_input(model.graph, inputs)]
    try:
        stream = model.stream(batch=len(arrays[0]))
    except InputError as error:
        return str(error)
    if len({array.shape[1] for array in arrays}) > 1:
        return None
    arrays = [a.reshape(*a.shape, *[1] * (len(i.shape) - a.ndim)) for a, i in zip(arrays, model.inputs)]
    inputs = arrays if len(model.inputs) > 1 else arrays[0]
    whole = listed(model.predict(inputs, batch_size=len(arrays[0])))
    for sizes in (iter(lambda: 1, 0), iter([3, 1, 2, *[1] * 99]), iter([99])):
        stream.reset()
        same(joined(stream, push_all(stream, inputs, sizes)[0]), whole, model, label)
    return True


def check_ragged(model, inputs, label=""):
    """Compare rows of several lengths with the array they are padded to, at either end; True if there was something.

    Only for models of one input whose answer does not depend on masked padding.
    """
    plan, given = model._plan, model.inputs[0]
    if len(model.inputs) > 1 or given.dtype == "string" or not (plan.padding.free and plan.independent):
        return False
    (x,) = map(np.asarray, by_input(model.graph, inputs))
    if x.ndim != len(given.shape) or x.ndim < 2:
        return False
    count, timesteps = x.shape[:2]
    lengths = np.random.default_rng(timesteps).integers(1, timesteps + 1, count)
    rows = [row[:length] for row, length in zip(x, lengths)]
    answer = model.predict(rows)
    outputs = [answer] if isinstance(answer, list) and len(model.outputs) == 1 else listed(answer)
    for side in ("pre", "post"):
        places = [slice(timesteps - n, timesteps) if side == "pre" else slice(0, n) for n in lengths]
        array = np.full(x.shape, plan.padding.values[0], x.dtype)
        for target, place, row in zip(array, places, rows):
            target[place] = row
        for y, whole, origin in zip(outputs, listed(model.predict(array)), plan.padding.outputs, strict=True):
            cut = whole if origin is None else [row[place] for row, place in zip(whole, places)]
            for a, b in zip(y, cut, strict=True):
                same([np.asarray(a)], [np.asarray(b)], model, f"rows padded in front or behind ({side}) {label}")
    return True
