"""The numbers of `fastbilstm report`: time against batch and length, the share of each layer, agreement.

Everything is measured when it is asked for, on made-up inputs (`vector.made_inputs`). Layers are timed in a copy of
the network whose `run` looks at the clock; the network that predicts is left alone. Imports Keras only to compare.
"""

import copy
import platform
import time
from dataclasses import dataclass, replace

import numpy as np

from . import vector as vectors
from .errors import FastBiLSTMError, InputError
from .layers import Functional
from .loading import load
from .model import Model
from .tolerances import compare
from .verify import KerasUnavailable, run_in_keras, same_model

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (10, 25, 50, 100, 200, 400)
# The length at which batches are timed and the batches at which lengths are, where the model leaves them free.
LENGTH, SHARE_BATCHES = 100, (1, 32)
# What a call takes beside its layers.
BETWEEN = "(checks and copies around the layers)"
# Rows compared with a reference: as many as take the specification a few seconds.
ROWS, SPECIFICATION_WORK = 64, 2 * 10**10
# Sizes of free axes in the inputs compared, tried one after another.
_SIZES = (50, 12, *range(1, 9))


@dataclass(frozen=True)
class Timing:
    """Seconds of one call of predict: median, lower and upper quartile of `calls` calls. `length` None: fixed sizes."""

    threads: int
    batch: int
    length: int | None
    seconds: float
    low: float
    high: float
    calls: int


@dataclass(frozen=True)
class Share:
    """Seconds of a layer in one call at each of the batches, on one thread; `path` leads through models inside.

    `together`: the layers that went into it and are timed with it.
    """

    path: tuple
    seconds: dict
    together: tuple = ()


@dataclass(frozen=True)
class Speed:
    """All timings. `length`: that of the batches; `missing`: why figures or parts of them are missing."""

    length: int | None
    batches: tuple
    lengths: tuple
    shares: tuple
    missing: tuple


@dataclass(frozen=True)
class Agreement:
    """Outputs against one reference.

    `counts[k]` elements have an error between `edges[k]` and `edges[k + 1]` times the largest element of their output;
    `equal` have none, `special` are no finite numbers or no numbers and are compared as equal or not.
    """

    reference: str
    rows: int
    ok: bool
    outputs: tuple
    edges: tuple
    counts: tuple
    equal: int
    special: int
    largest: float
    median: float
    remark: str = ""


def cpu_name():
    """The name of the CPU as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# ---- agreement ------------------------------------------------------------------------------------------------------


def agreements(model, path, against, config, outputs):
    """Compare with all references there are: (list of Agreement, list of sentences on what could not be compared)."""
    found, missing = [], []
    if model.vector is not None:
        recorded = model.vector
        remark = "recorded when the file was converted"
        found.append(_agreement(model, recorded, f"the recorded vector, by {recorded.computed_by}", remark))
    try:
        # What the specification costs is known before it runs.
        steps = max([i.shape[1] or _SIZES[0] for i in model.graph.inputs if len(i.shape) > 1], default=1)
        rows = int(np.clip(SPECIFICATION_WORK // (model._plan.work * steps), 3, ROWS))
        made = vectors.make(model.graph, model._tensors, rows, _SIZES)
    except InputError as error:
        missing.append(f"compared on no made-up input, since none fits the model: {error}")
        return found, missing
    keras_file = against or (path if model.vector is None else None)
    if keras_file is None:
        missing.append("not compared with Keras: give the Keras file that the model came from with --against")
    else:
        try:
            title, theirs = run_in_keras(keras_file, config, outputs, model.graph, list(made.inputs))
            live = replace(made, outputs=tuple(theirs), computed_by=title)
            found.append(_agreement(model, live, f"{title}, run beside it", "made-up input with real padding"))
        except KerasUnavailable as reason:
            missing.append(f"not compared with Keras: {reason}")
        except Exception as error:  # whatever Keras raises is told and hides nothing that we measure
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            missing.append(f"not compared with Keras: it refuses the made-up input ({type(error).__name__}: {reason})")
    remark = "shows that the engine computes what fastbilstm's NumPy specification says; no comparison with Keras"
    found.append(_agreement(model, made, "fastbilstm's specification in float64", remark))
    return found, missing


def check_against(against, model, path, **options):
    """Refuse a Keras file that a converted model did not come from."""
    if model.vector is None:
        raise FastBiLSTMError(f"{path}: is a Keras file itself; --against goes with a converted model")
    if not same_model(load(against, **options), model):
        raise FastBiLSTMError(f"{against}: holds other weights or layers than {path}; --against names its Keras file")


def _agreement(model, vector, reference, remark):
    ours = Model(model.graph, model._tensors, dtype=model.dtype, backend=model.backend)._plan.run(
        list(vector.inputs), {}
    )
    relative, special, compared = [], 0, []
    for info, y, k in zip(model.outputs, ours, vector.outputs):
        dtype = "float64" if model.dtype == "float64" and k.dtype == np.float64 else "float32"
        compared.append((info.name, compare(y, k, dtype)))
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
        len(vector.inputs[0]),
        len(ours) == len(vector.outputs) and all(result.ok for _, result in compared),
        tuple(compared),
        edges,
        counts,
        int(errors.size - above.size),
        special,
        float(errors.max(initial=0.0)),
        float(np.median(errors)) if errors.size else 0.0,
        remark,
    )


def _bins(errors):
    """Edges a third of a decade apart, and how many errors lie between them."""
    if not errors.size:
        return (), ()
    low, high = (int(np.floor(np.log10(bound) * 3)) for bound in (max(errors.min(), 1e-20), errors.max()))
    edges = 10.0 ** (np.arange(low, high + 2) / 3)
    place = np.clip(np.searchsorted(edges, errors, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place, minlength=len(edges) - 1)
    return tuple(map(float, edges)), tuple(map(int, counts))


# ---- time -----------------------------------------------------------------------------------------------------------


class _Clock:
    """What a deadline leaves for the next of several measurements."""

    def __init__(self, seconds, parts):
        self.end, self.parts = time.perf_counter() + seconds, parts
        # Seconds a row and timestep took in the latest call; sizes grow from call to call.
        self.rate = 0.0

    def share(self):
        left = max(self.end - time.perf_counter(), 0.0) / max(self.parts, 1)
        self.parts -= 1
        return left

    def is_too_slow(self, size):
        """Whether one call of so many rows times timesteps, and one to warm up, would end too late."""
        left = self.end - time.perf_counter()
        return self.rate > 0 and (left <= 0 or 2 * size * self.rate > left)


def timed(function, seconds, least=5, most=200):
    """Times of calls of a function, after one that is not counted, for about so many seconds."""
    function()
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or (len(times) < most and time.perf_counter() < end):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
        if time.perf_counter() > end + 4 * seconds:
            break
    return np.array(times)


def has_free_length(model):
    """Whether sequences may be of any length: an axis beside the first is free, or texts are read."""
    return any(i.dtype == "string" or None in i.shape[1:] for i in model.graph.inputs)


def sample(model, rows, length):
    """Inputs that the model takes, made up; InputError if it takes none."""
    first_error = None
    for arrays in vectors.made_inputs(model._plan, rows, (length,)):
        arrays = arrays[0] if len(arrays) == 1 else arrays
        try:
            model.predict(arrays, batch_size=rows)
            return arrays
        except InputError as error:
            first_error = first_error or error
        finally:
            model.reset_states()
    raise first_error


def speed(model, seconds, tell=lambda text: None):
    """Time predictions and layers for about so many seconds; `tell` is given what is being done."""
    fixed = next((i.shape[0] for i in model.graph.inputs if i.shape[0]), None)
    free = has_free_length(model)
    batches = BATCHES if fixed is None else (fixed,)
    share_batches = SHARE_BATCHES if fixed is None else (fixed,)
    length = LENGTH if free else None
    threads = tuple(dict.fromkeys((1, model.n_threads)))
    cells = [("batch", n, batch, length) for batch in batches for n in threads]
    cells += [("length", n, batch, size) for size in LENGTHS for batch in share_batches for n in threads if free]
    clock, done, missing, skipped = _Clock(seconds, len(cells) + 2 * len(share_batches)), {}, [], 0
    # The shares come first: they are few, and shown whatever the rest takes.
    shares = {}
    for batch in share_batches:
        tell(f"layers at batch {batch}")
        size = batch * (length or 1)
        if clock.is_too_slow(size):
            skipped += 1
            continue
        try:
            shares[batch] = _layer_seconds(model, sample(model, batch, length or 1), batch, 2 * clock.share())
        except InputError as error:
            missing.append(f"no layer was timed at batch {batch}: {error}")
            continue
        clock.rate = sum(shares[batch].values()) / size
    for kind, n, batch, size in sorted(cells, key=lambda cell: cell[2] * (cell[3] or 1)):
        tell(f"batch {batch}" + (f", length {size}" if size else "") + f", {n} thread{'s' * (n > 1)}")
        budget = clock.share()
        same = next((t for t in done.values() if (t.threads, t.batch, t.length) == (n, batch, size)), None)
        if same is None:
            if clock.is_too_slow(batch * (size or 1)):
                skipped += 1
                continue
            try:
                same = _time(model, n, batch, size, budget)
            except InputError as error:
                missing.append(f"not timed: batch {batch}, length {size}: {error}")
                continue
            clock.rate = same.seconds / (batch * (size or 1))
        done[kind, n, batch, size] = same
    if skipped:
        missing.append(f"{skipped} of the timings were left out: {seconds:g} s (--seconds) are too short for them")
    if not free:
        missing.append("the model takes inputs of one size only, so that there is no figure of time against length")
    if fixed is not None:
        missing.append(f"the model takes batches of {fixed} rows only")
    chosen = [[done[c] for c in cells if c[0] == kind and c in done] for kind in ("batch", "length")]
    paths = list(dict.fromkeys(path for found in shares.values() for path in found))
    inside = _inside(model._plan.runner)
    rows = [
        Share(path, {batch: found.get(path, 0.0) for batch, found in shares.items()}, tuple(inside.get(path, ())))
        for path in paths
    ]
    return Speed(length, tuple(chosen[0]), tuple(chosen[1]), tuple(rows), tuple(missing))


def _time(model, threads, batch, length, seconds):
    x = sample(model, batch, length or 1)
    try:
        times = timed(lambda: model.predict(x, batch_size=batch, n_threads=threads), seconds)
    finally:
        model.reset_states()
    low, middle, high = np.percentile(times, (25, 50, 75))
    return Timing(threads, batch, length, float(middle), float(low), float(high), len(times))


def _layer_seconds(model, x, batch, seconds):
    """{path of a layer: median of its seconds in a call, on one thread}; the last one is what is between layers."""
    times, clock = {}, time.perf_counter
    timing = copy.copy(model)
    timing._states = {}
    timing._plan = replace(model._plan, runner=_clocked(model._plan.runner, times), scratches=[])

    def call():
        for spent in times.values():
            spent.append(0.0)
        start = clock()
        timing.predict(x, batch_size=batch, n_threads=1)
        whole = clock() - start
        layers = sum(spent[-1] for spent in times.values())
        between.append(whole - layers)

    between = []
    timed(call, seconds)
    # The first call warms up, and finds the layers.
    found = {path: float(np.median(spent[1:])) for path, spent in times.items()}
    return found | {(BETWEEN,): float(np.median(between[1:]))}


def _inside(network, path=()):
    """{path of a layer that runs: names of those that went into it}."""
    found, layers = {}, network.graph.layers
    running = {step.layer.name: step.layer for step in getattr(network, "steps", ())}
    for index, others in getattr(network, "into", {}).items():
        if layers[index].name in running:
            continue  # read by others too, and timed by itself
        for other in others:
            while layers[other].name not in running and network.into.get(other):
                other = network.into[other][0]
            found.setdefault((*path, layers[other].name), []).append(layers[index].name)
    for layer in running.values():
        if isinstance(layer, Functional):
            found |= _inside(layer, (*path, layer.name))
    return found


def _clocked(network, times, path=()):
    """A copy of a network that adds the seconds of each layer to the last entry of its list in `times`, by path."""
    made, clock = copy.copy(network), time.perf_counter
    first, nodes = len(network.graph.inputs), network.graph.nodes

    def spent(key, function, *args):
        start = clock()
        result = function(*args)
        times.setdefault(key, [0.0])[-1] += clock() - start
        return result

    if not hasattr(network, "steps"):
        made.inner = tuple(
            _clocked(part, times, (*path, part.name)) if isinstance(part, Functional) else part
            for part in network.inner
        )

        def call_part(part, args, kwargs, states):
            if isinstance(part, Functional):
                return network.call_part(part, args, kwargs, states)
            return spent((*path, part.name), network.call_part, part, args, kwargs, states)

        made.call_part = call_part
        return made

    def name_of(step):
        return network.graph.layers[nodes[step.number - first].layer].name

    made.steps = [
        step._replace(layer=_clocked(step.layer, times, (*path, name_of(step))))
        if isinstance(step.layer, Functional)
        else step
        for step in network.steps
    ]

    def run(step, values, states):
        if isinstance(step.layer, Functional):
            return network.run(step, values, states)
        return spent((*path, name_of(step)), network.run, step, values, states)

    made.run = run
    return made
