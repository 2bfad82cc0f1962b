"""The network that backend "vector" runs: a list of steps. fusion.py makes it.

A step calls one layer: one on kernels if there is one, else that of the specification. Two recurrent layers may run at
the same time if neither reads the other. Knows nothing of files.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import _kernels
from ..graph import Ref, flatten_refs, map_refs
from ..layers import Functional, Tensor
from ..layers.functional import Wrapper, autocast, cast_input
from .vector_embedded import VectorEmbedded
from .vector_layers import Context, Scratch, is_plain, recorder, worth_a_thread
from .vector_recurrent import VectorRecurrent

NO_KWARGS, MASK_GIVEN = {"mask": False}, {"mask": True}


class Step(NamedTuple):
    """One call of a layer.

    `refs`: its arguments if all are plain tensors, else None. `mask`: the mask given for the only argument. `release`:
    the numbers of the values that no later step reads. `beside`: whether the next step may run at the same time.
    """

    number: int
    layer: Any
    args: tuple
    kwargs: dict
    refs: tuple | None
    mask: Ref | None = None
    release: tuple = ()
    beside: bool = False


class Network(Functional):
    """A Functional that runs `steps` and returns the values that `results` refer to.

    By the index of a layer in the graph, `labels` says what computes it, and `into` which other layers it was fused
    into, if any.
    """

    has_kernels = True
    # A plan takes these from here, since it does not import vector_layers.
    new_scratch, new_context, is_plain = Scratch, Context, staticmethod(is_plain)

    def __init__(self, functional, steps, results, labels, into):
        self.__dict__.update(vars(functional))
        self.steps, self.results, self.labels, self.into = steps, results, labels, into

    def call(self, inputs, kwargs, states):
        values = {
            number: [Tensor(cast_input(value, given.dtype, self.dtype, self.casts_whole), mask)]
            for number, ((value, mask), given) in enumerate(zip(inputs, self.graph.inputs))
        }
        steps = iter(self.steps)
        for step in steps:
            if step.beside and states.n_threads > 1 and self.is_worth_two(step, values):
                other = next(steps)
                calls = [self.plain_call(each, values) for each in (step, other)]
                values[step.number], values[other.number] = call_together(calls, states)
                ended = (*step.release, *other.release)
            else:
                self.run(step, values, states)
                ended = step.release
            for number in ended:
                del values[number]
        return [values[ref.node][ref.tensor] for ref in self.results]

    def is_settled(self):
        """Whether no step is still to make a table of projections: a tape would go on without it."""
        layers = [step.layer for step in self.steps]
        tables = [getattr(layer, "pending_table", None) for layer in layers]
        pending = any(table is not None and table.is_pending for table in tables)
        inside = [*layers, *(part for layer in layers if isinstance(layer, Wrapper) for part in layer.inner)]
        return not pending and all(layer.is_settled() for layer in inside if isinstance(layer, Network))

    def run(self, step, values, states):
        if step.refs is None:
            args = map_refs(lambda ref: values[ref.node][ref.tensor], step.args)
            kwargs = map_refs(lambda ref: values[ref.node][ref.tensor], step.kwargs)
            call = partial(self.call_part, step.layer, args, kwargs)
        else:
            layer, tensors, kwargs = self.plain_call(step, values)
            call = partial(layer.call, tensors, kwargs)
        values[step.number] = found = call(states)
        tape = recorder()
        if tape is not None and not getattr(step.layer, "has_kernels", False):
            refs = flatten_refs((step.args, step.kwargs))
            values[step.number] = noted(tape, call, [values[ref.node][ref.tensor] for ref in refs], found)

    def plain_call(self, step, values):
        """(layer, tensors, kwargs) of a step whose arguments are plain tensors."""
        tensors = [values[ref.node][ref.tensor] for ref in step.refs]
        if step.mask is not None:
            mask = values[step.mask.node][step.mask.tensor].value
            tensors = [Tensor(tensors[0].value, mask.astype(bool, copy=False))]
        return step.layer, autocast(tensors, step.layer, self.dtype), NO_KWARGS if step.mask is None else MASK_GIVEN

    def is_worth_two(self, step, values):
        ref = step.refs[0]
        batch, timesteps = values[ref.node][ref.tensor].value.shape[:2]
        return worth_a_thread(2 * step.layer.work, batch * timesteps)


def noted(tape, call, inputs, outputs):
    """The outputs of a layer without kernels; a tape that is recording notes the call as a step."""
    scratch = Scratch()

    def arrays(tensors):
        return [y for y, _ in tensors] + [mask for _, mask in tensors if mask is not None]

    def again():
        with np.errstate(all="ignore"):
            return arrays(call(Context({}, scratch, 1)))

    found = iter(tape.step(again, arrays(inputs), arrays(outputs)))
    values = [next(found) for _ in outputs]
    return [Tensor(y, None if mask is None else next(found)) for y, (_, mask) in zip(values, outputs)]


def side_by_side(steps):
    """The steps, of which some may run at the same time as the next one: two recurrent layers of one direction."""
    for k in range(len(steps) - 2, -1, -1):
        first, second = steps[k], steps[k + 1]
        alike = all(s.refs is not None and is_one_direction(s.layer) for s in (first, second))
        alike = alike and first.layer is not second.layer  # a stateful one has one state
        if alike and not second.beside:
            reads = {ref.node for ref in (*second.refs, second.mask) if ref is not None}
            steps[k] = first._replace(beside=first.number not in reads)
    return steps


def is_one_direction(layer):
    """Whether a layer is an LSTM, GRU or SimpleRNN, perhaps with its Embedding: two such may run at the same time."""
    return isinstance(layer.layer if isinstance(layer, VectorEmbedded) else layer, VectorRecurrent)


def call_together(calls, states):
    """The results of two such layers, each as (layer, inputs, kwargs), in two threads."""
    try:
        jobs, ends = zip(*(layer.start_call(inputs, kwargs, states) for layer, inputs, kwargs in calls))
        finals = _kernels.run_recurrent(list(jobs), states.scratch, states.n_threads)
    except ValueError:
        # Call them one after the other: the layer whose input does not fit raises an error with its name.
        return [layer.call(inputs, kwargs, states) for layer, inputs, kwargs in calls]
    return [end(final) for end, final in zip(ends, finals)]
