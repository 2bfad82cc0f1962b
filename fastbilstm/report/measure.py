"""Times for `fastbilstm report`: for batch sizes and lengths, and the share of each layer.

All times are measured on made-up inputs. Layers are timed in a copy of the network whose `run` reads the clock; the
network that predicts does not change.
"""

from __future__ import annotations

import copy
import os
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..converted import self_check as vectors
from ..errors import FastBiLSTMError, InputError
from ..layers import Functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import Model

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (10, 25, 50, 100, 200, 400)
# If the model leaves them free: the length at which batches are timed, and the batches for layers and lengths.
LENGTH, SHARE_BATCHES = 100, (1, 32)
# The name of the time that a call takes outside its layers.
BETWEEN = "(checks and copies around the layers)"


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

    `together`: the layers that were fused into it and are timed with it.
    """

    path: tuple[str, ...]
    seconds: dict[int, float]
    together: tuple[str, ...] = ()


@dataclass(frozen=True)
class Speed:
    """All timings.

    Attributes
    ----------
    length : int or None
        The length at which batches are timed.
    batches, lengths : tuple of Timing
        Times for each size of the batch, and for each length.
    shares : tuple of Share
        One for each layer.
    missing : tuple of str
        Why figures or parts of them are missing.
    """

    length: int | None
    batches: tuple[Timing, ...]
    lengths: tuple[Timing, ...]
    shares: tuple[Share, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Load:
    """How many programs wanted a core, over the last minute, before and after the timings; and the cores."""

    before: float
    after: float
    cores: int


def load_now() -> float | None:
    """How many programs wanted a core, over the last minute; None where the system does not tell (Windows)."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


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


class _Clock:
    """The time that is left for the next of several measurements before a deadline."""

    def __init__(self, seconds, parts):
        self.end, self.parts = time.perf_counter() + seconds, parts
        # Seconds for each row and timestep in the latest call; sizes grow from call to call.
        self.rate = 0.0

    def share(self):
        left = max(self.end - time.perf_counter(), 0.0) / max(self.parts, 1)
        self.parts -= 1
        return left

    def is_too_slow(self, size):
        """Whether a call of that many rows times timesteps, and one to warm up, would end too late."""
        left = self.end - time.perf_counter()
        return self.rate > 0 and (left <= 0 or 2 * size * self.rate > left)


def timed(function, seconds, least=5, most=200):
    """Times of calls of a function for about that many seconds; the first call is not counted."""
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
    """Whether sequences may have any length: an axis other than the batch axis is free, or the model reads texts."""
    return any(i.dtype == "string" or None in i.shape[1:] for i in model.graph.inputs)


def sample(model, rows, length):
    """Made-up inputs for the model; InputError if the model takes none of those tried."""
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


def speed(model: Model, seconds: float, tell: Callable[[str], Any] = lambda text: None) -> Speed:
    """Time predictions and layers for about that many seconds; calls `tell(text)` before each part."""
    fixed = next((i.shape[0] for i in model.graph.inputs if i.shape[0]), None)
    free = has_free_length(model)
    batches = BATCHES if fixed is None else (fixed,)
    share_batches = SHARE_BATCHES if fixed is None else (fixed,)
    length = LENGTH if free else None
    # The other backends run one call on one thread, but for those that NumPy's BLAS starts by itself.
    threads = (1, model.n_threads) if model.backend == "vector" and model.n_threads > 1 else (1,)
    cells = [("batch", n, batch, length) for batch in batches for n in threads]
    cells += [("length", n, batch, size) for size in LENGTHS for batch in share_batches for n in threads if free]
    clock, done, missing, skipped = _Clock(seconds, len(cells) + 2 * len(share_batches)), {}, [], 0
    # The shares come first: they are quick, and are shown however long the rest takes.
    shares = {}
    for batch in share_batches:
        tell(f"layers at batch {batch}")
        size = batch * (length or 1)
        if clock.is_too_slow(size):
            skipped += 1
            continue
        try:
            shares[batch] = _layer_seconds(model, sample(model, batch, length or 1), batch, 2 * clock.share())
        except FastBiLSTMError as error:
            missing.append(f"no layer was timed at batch {batch}: {error}")
            continue
        clock.rate = sum(shares[batch].values()) / size
    for kind, n, batch, size in sorted(cells, key=lambda cell: cell[2] * (cell[3] or 1)):
        tell(f"batch {batch}" + (f", length {size}" if size else "") + f", {n} thread{'s' * (n > 1)}")
        budget = clock.share()
        same = next((t for t in done.values() if (t.threads, t.batch, t.length) == (n, batch, size)), None)
        if same is None:
            if done and clock.is_too_slow(batch * (size or 1)):
                skipped += 1
                continue
            try:
                same = _time(model, n, batch, size, budget)
            except FastBiLSTMError as error:
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
    """{path of a layer: median of its seconds in a call, on one thread}; the last is the time between layers."""
    times, clock = {}, time.perf_counter
    timing = copy.copy(model)
    timing._states = {}
    timing._plan = model._plan.replace(runner=_clocked(model._plan.runner, times), scratches=[], replay=None)
    timing._replay = None  # a tape would run without the clocks

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


def _name(network, step):
    """The name of the layer that a step runs."""
    return network.graph.layers[network.graph.nodes[step.number - len(network.graph.inputs)].layer].name


def _inside(network, path=()):
    """{path of a layer that runs: names of the layers that were fused into it}."""
    found, layers = {}, network.graph.layers
    running = {_name(network, step): step.layer for step in getattr(network, "steps", ())}
    for index, others in getattr(network, "into", {}).items():
        if layers[index].name in running:
            continue  # read by others too, and timed by itself
        for other in others:
            while layers[other].name not in running and other in network.into:
                other = network.into[other][0]
            found.setdefault((*path, layers[other].name), []).append(layers[index].name)
    for name, layer in running.items():
        if isinstance(layer, Functional):
            found |= _inside(layer, (*path, name))
    return found


def _clocked(network, times, path=()):
    """A copy of a network that adds the seconds of each layer to the last entry of its list in `times`, by path."""
    made, clock = copy.copy(network), time.perf_counter

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

    made.steps = [
        step._replace(layer=_clocked(step.layer, times, (*path, _name(network, step))))
        if isinstance(step.layer, Functional)
        else step
        for step in network.steps
    ]

    def run(step, values, states):
        if isinstance(step.layer, Functional):
            return network.run(step, values, states)
        return spent((*path, _name(network, step)), network.run, step, values, states)

    made.run = run
    return made
