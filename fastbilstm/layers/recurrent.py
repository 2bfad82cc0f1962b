"""LSTM, GRU, SimpleRNN, RNN and Bidirectional: the specification, in NumPy.

timesteps.py holds one timestep and the loop over time; cells.py the weights and options of a cell. The classes here add
the options that Keras has for the loop: masks, direction, states, merge modes. Imports NumPy; knows nothing of files or
kernels.
"""

import numpy as np

from ..activations import sigmoid
from ..errors import InputError
from .base import (
    BaseLayer,
    Option,
    Spec,
    Tensor,
    boolean,
    broadcast_mask,
    check_sequence_mask,
    choice,
    register,
    same_size,
)
from .cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells, check_cell
from .timesteps import lstm_step, unroll


def lstm(
    x,
    kernel,
    recurrent_kernel,
    bias=None,
    mask=None,
    initial_state=None,
    activation=np.tanh,
    recurrent_activation=sigmoid,
    masked_output="previous",
):
    """Keras LSTM forward pass: `lstm_step` over time, from initial_state (h, c) or zeros.

    x (B, T, F), mask (B, T) bool or None -> outputs (B, T, U), last output (B, U), last h (B, U), last c (B, U).
    """
    zeros = np.zeros((len(x), len(recurrent_kernel)), x.dtype)
    weights = kernel, recurrent_kernel, bias, activation, recurrent_activation
    outputs, last, states = unroll(
        lambda x, states: lstm_step(x, states, *weights), x, mask, initial_state or (zeros, zeros), masked_output
    )
    return outputs, last, *states


def merge(forward, backward, mode):
    """Join the two directions of a Bidirectional layer: concat, sum, mul or ave of (..., U) arrays."""
    if mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if mode == "sum":
        return forward + backward
    if mode == "mul":
        return forward * backward
    return (forward + backward) / 2


class Recurrent(BaseLayer):
    """What LSTM, GRU, SimpleRNN and RNN have in common: the options of Keras for a cell that runs over time.

    Each class has `step`, `state_sizes`, `output_state` and `units` from its cell.

    Attributes
    ----------
    sequence : callable or None
        Set by a backend: it runs the whole sequence instead of `unroll`.
    """

    options = {
        "return_sequences": Option(boolean, False),
        "return_state": Option(boolean, False),
        "go_backwards": Option(boolean, False),
        "stateful": Option(boolean, False),
        "unroll": Option(boolean, False),
        "time_major": Option(boolean, False),
        "zero_output_for_mask": Option(boolean, False),
    }
    n_inputs = sequence = None
    input_rank = 3

    @property
    def masked_output(self):
        """What a masked timestep emits in the version of Keras that wrote the file; see `lstm`."""
        if self.zero_output_for_mask:
            return "zero"
        # On TensorFlow, Keras up to 2.2.4 emits the state, except if unrolled. Unrolled, on Theano, and from 2.3 on it
        # emits the previous output (keras 2.2.4, backend/tensorflow_backend.py, rnn()).
        old = self.version.is_multi_backend and self.version.version < (2, 3)
        return "state" if old and self.version.backend == "tensorflow" and not self.unroll else "previous"

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, self.input_rank)
        n_given, sizes = len(inputs) - 1, self.state_shapes(shape)
        if n_given not in (0, len(sizes)):
            self.fail(f"it is called with {n_given} initial states; expected {len(sizes)}")
        for state, size in zip(inputs[1:], sizes):
            if len(state.shape) != 1 + len(size) or not all(map(same_size, state.shape[1:], size)):
                self.fail(f"an initial state has shape {state.shape}; expected (batch, {', '.join(map(str, size))})")
        batch = shape[1] if self.time_major else shape[0]
        if self.stateful and batch is None:
            self.fail("stateful is true and the batch size is not fixed; give the Input a batch_shape")
        lead = shape[:2] if self.return_sequences else (batch,)
        outputs = [Spec((*lead, *sizes[self.output_state]), self.return_sequences and inputs[0].masked)]
        if self.return_state:
            outputs += [Spec((batch, *size)) for size in sizes]
        return outputs

    def state_shapes(self, shape):
        """The shape of each state without the batch axis, for an input of a shape."""
        return [(size,) for size in self.state_sizes]

    def run(self, x, mask, initial_state, masked_output, states):
        """x (B, T, F) -> outputs (B, T, U) in the order of processing, the last output, the last states."""
        if self.go_backwards:
            x = x[:, ::-1]
            mask = None if mask is None else mask[:, ::-1]
        if self.sequence is not None:
            options = {
                option: self.activation_function(option)
                for option in ("activation", "recurrent_activation")
                if option in self.config
            }
            return self.sequence(
                x, **self.weights, mask=mask, initial_state=initial_state, masked_output=masked_output, **options
            )
        if initial_state is None:
            initial_state = tuple(np.zeros((len(x), size), x.dtype) for size in self.state_sizes)
        outputs, last, final = unroll(self.step, x, mask, tuple(initial_state), masked_output, self.output_state)
        return outputs, last, *final

    def start_states(self, given, batch, states):
        """The initial states: given, or remembered, or None for zeros."""
        if not self.stateful:
            return given or None
        kept = states.get(self)
        if kept is not None and len(kept[0]) != batch:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}) is stateful and remembers a batch of {len(kept[0])} rows, "
                f"this one has {batch}; call reset_states() first"
            )
        if given and (self.version.is_keras3 or kept is None or not any(np.any(s) for s in kept)):
            return given
        return kept

    @property
    def zeroes_late(self):
        """Whether Keras zeroes reversed outputs by a mask that is not reversed: so do unrolled backward layers."""
        return self.unroll and self.go_backwards and self.masked_output == "zero"

    def begin(self, inputs, kwargs, states):
        """The arguments of `run`: x with the batch axis first, its mask (B, T) or None, initial states or None."""
        x, mask = inputs[0]
        given = tuple(state.value for state in inputs[1:])
        if given and self.version.is_keras3 and not kwargs.get("mask"):
            # Keras 3 passes an implicit mask only to a call with one tensor argument.
            mask = None
        if self.time_major:
            x = np.swapaxes(x, 0, 1)
            mask = None if mask is None else np.swapaxes(mask, 0, 1)
        if x.shape[1] == 0:
            raise InputError(f"layer {self.name!r} ({self.class_name}): its input has no timesteps, shape {x.shape}")
        return x, check_sequence_mask(self, x, mask), self.start_states(given, len(x), states)

    def emitted(self, mask):
        """What the time loop emits at masked timesteps; see `lstm`."""
        return "previous" if mask is not None and self.zeroes_late else self.masked_output

    def finish(self, outputs, last, final, mask, output_mask, states):
        """The Tensors that a call returns, from the results of `run`; the mask is (B, T)."""
        if mask is not None and self.zeroes_late:
            # The last output is that of the last timestep processed.
            outputs = np.where(broadcast_mask(mask, outputs), outputs, 0) if self.return_sequences else outputs
            last = np.where(broadcast_mask(mask[:, 0], last), last, 0)
        if self.stateful:
            states[self] = final
        if self.return_sequences:
            outputs = np.swapaxes(outputs, 0, 1) if self.time_major else outputs
            result = [Tensor(outputs, output_mask)]
        else:
            result = [Tensor(last)]
        if self.return_state:
            result += [Tensor(state) for state in final]
        return result

    def call(self, inputs, kwargs, states):
        x, mask, start = self.begin(inputs, kwargs, states)
        outputs, last, *final = self.run(x, mask, start, self.emitted(mask), states)
        return self.finish(outputs, last, final, mask, inputs[0].mask, states)


@register
class LSTM(Recurrent, LSTMCell):
    """Keras' LSTM with all its options."""

    options = {**LSTMCell.options, **Recurrent.options}


@register
class GRU(Recurrent, GRUCell):
    """Keras' GRU with all its options."""

    options = {**GRUCell.options, **Recurrent.options}


@register
class SimpleRNN(Recurrent, SimpleRNNCell):
    """Keras' SimpleRNN with all its options."""

    options = {**SimpleRNNCell.options, **Recurrent.options}


@register
class RNN(Recurrent):
    """Runs a cell over time; the cell may be StackedRNNCells."""

    def __init__(self, layer, version, inner=()):
        super().__init__(layer, version, inner)
        (self.cell,) = self.inner
        self.step = self.cell.step

    units = property(lambda self: self.cell.units)
    n_states = property(lambda self: self.cell.n_states)
    state_sizes = property(lambda self: self.cell.state_sizes)
    output_state = property(lambda self: self.cell.output_state)

    def infer(self, inputs, kwargs):
        outputs = super().infer(inputs, kwargs)
        check_cell(self.cell, inputs[0].shape[2], self)
        if isinstance(self.cell, StackedRNNCells):
            self.check_stack(len(inputs) > 1 or self.return_state, inputs[0].masked)
        return outputs

    def check_stack(self, shows_states, masked):
        """Refuse cases that old versions computed differently: states in reverse order of the cells, masked outputs."""
        number, multi = self.version.version, self.version.is_multi_backend
        if shows_states and number < ((2, 3) if multi else (2, 2, 4)):
            self.fail(f"the order of the states of StackedRNNCells in {self.version} is not known to fastbilstm")
        if masked and self.masked_output == "state":
            self.fail(f"what StackedRNNCells emit at masked timesteps in {self.version} is not known to fastbilstm")


@register
class Bidirectional(BaseLayer):
    """A forward and a backward layer read the same input; a merge mode joins their outputs."""

    options = {"merge_mode": Option(choice("concat", "sum", "mul", "ave", None), "concat")}
    n_inputs = None

    def __init__(self, layer, version, inner=()):
        super().__init__(layer, version, inner)
        self.forward, self.backward = self.inner
        if not version.is_multi_backend:
            for part in self.inner:
                part.config = {**part.config, "zero_output_for_mask": part.return_sequences}

    @classmethod
    def backward_config(cls, config, version):
        """The config of the backward layer if the file gives only that of the forward layer."""
        return {**config, "go_backwards": True if version.is_keras3 else not config["go_backwards"]}

    def infer(self, inputs, kwargs):
        forward, backward = self.inner
        for name in ("return_sequences", "return_state", "stateful", "time_major"):
            if getattr(forward, name) != getattr(backward, name):
                self.fail(f"its forward and backward layer differ in {name}")
        if forward.go_backwards == backward.go_backwards:
            self.fail(f"its forward and backward layer both have go_backwards={forward.go_backwards}")
        half = (len(inputs) - 1) // 2
        if len(inputs) - 1 != 2 * half:
            self.fail(f"it is called with {len(inputs) - 1} initial states; expected an even number")
        first = forward.checked_infer([inputs[0], *inputs[1 : 1 + half]], kwargs)
        second = backward.checked_infer([inputs[0], *inputs[1 + half :]], kwargs)
        shape, masked, shape_backward = first[0].shape, first[0].masked, second[0].shape
        if self.merge_mode is None:
            outputs = [first[0], second[0]]
        elif self.merge_mode == "concat":
            outputs = [Spec((*shape[:-1], shape[-1] + shape_backward[-1]), masked)]
        elif shape[-1] != shape_backward[-1]:
            self.fail(f"merge_mode {self.merge_mode!r} of {shape[-1]} and {shape_backward[-1]} units")
        else:
            outputs = [Spec(shape, masked)]
        return outputs + first[1:] + second[1:]

    def call(self, inputs, kwargs, states):
        sequence, given = inputs[0], inputs[1:]
        output_mask = sequence.mask
        if given and self.version.is_keras3 and not kwargs.get("mask"):
            sequence = Tensor(sequence.value)
        kwargs = {"mask": True}
        half = len(given) // 2
        forward, *forward_states = self.forward.call([sequence, *given[:half]], kwargs, states)
        backward, *backward_states = self.backward.call([sequence, *given[half:]], kwargs, states)
        output_mask = output_mask if self.forward.return_sequences else None
        outputs = [Tensor(y, output_mask) for y in self.joined(forward.value, backward.value, states)]
        return outputs + forward_states + backward_states

    def joined(self, y, y_reverse, states):
        """The outputs of both directions in the order of time, merged or not."""
        if self.forward.return_sequences:
            y_reverse = np.flip(y_reverse, 0 if self.forward.time_major else 1)
        return [y, y_reverse] if self.merge_mode is None else [merge(y, y_reverse, self.merge_mode)]


def backward_layer(layer, name, version):
    """The graph.Layer of the backward layer, made as a copy of the forward layer."""
    return layer.replace(name=name, config=Bidirectional.backward_config(layer.config, version))
