"""LSTM and Bidirectional: the specification, in NumPy.

`lstm` is the forward pass as a textbook would state it; the classes below it are Keras' options around it: masks,
direction, states, merge modes. Slow on purpose. Imports NumPy; knows nothing of files or kernels.
"""

from dataclasses import replace

import numpy as np

from ..activations import sigmoid
from ..errors import InputError
from .base import (
    BaseLayer,
    Option,
    Spec,
    Tensor,
    activation,
    boolean,
    check_sequence_mask,
    choice,
    integer,
    register,
)


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
    """Keras LSTM forward pass: z = x.K + h.R + b, gates i f c o; c = f c + i act(g); h = o act(c).

    x (B, T, F), kernel (F, 4U), recurrent_kernel (U, 4U), bias (4U,) or None, mask (B, T) bool or None,
    initial_state (h, c), each (B, U), or None for zeros
    -> outputs (B, T, U), last output (B, U), last h (B, U), last c (B, U).

    A masked timestep carries h and c over; its output is the output before it ("previous", zero at first), zeros
    ("zero") or h ("state"). Slow on purpose: this is the specification.
    """
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    zeros = np.zeros((batch, units), x.dtype)
    h, c = (zeros, zeros) if initial_state is None else initial_state
    output = zeros
    outputs = np.empty((batch, timesteps, units), x.dtype)

    for t in range(timesteps):
        z = x[:, t] @ kernel + h @ recurrent_kernel
        if bias is not None:
            z = z + bias
        z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
        i = recurrent_activation(z_i)
        f = recurrent_activation(z_f)
        g = activation(z_g)
        o = recurrent_activation(z_o)
        c_t = f * c + i * g
        h_t = o * activation(c_t)

        if mask is None:
            output, h, c = h_t, h_t, c_t
        else:
            keep = mask[:, t, np.newaxis]
            masked = {"previous": output, "zero": zeros, "state": h}[masked_output]
            output = np.where(keep, h_t, masked)
            h = np.where(keep, h_t, h)
            c = np.where(keep, c_t, c)
        outputs[:, t] = output
    return outputs, output, h, c


def merge(forward, backward, mode):
    """Join the two directions of a Bidirectional layer: concat, sum, mul or ave of (..., U) arrays."""
    if mode == "concat":
        return np.concatenate([forward, backward], axis=-1)
    if mode == "sum":
        return forward + backward
    if mode == "mul":
        return forward * backward
    return (forward + backward) / 2


@register
class LSTM(BaseLayer):
    """Keras' LSTM with all its options."""

    options = {
        "units": Option(integer(1)),
        "activation": Option(activation, "tanh"),
        "recurrent_activation": Option(activation, "sigmoid"),
        "use_bias": Option(boolean, True),
        "return_sequences": Option(boolean, False),
        "return_state": Option(boolean, False),
        "go_backwards": Option(boolean, False),
        "stateful": Option(boolean, False),
        "unroll": Option(boolean, False),
        "time_major": Option(boolean, False),
        "zero_output_for_mask": Option(boolean, False),
    }
    ignored = (
        *("dropout", "recurrent_dropout", "implementation", "unit_forget_bias", "seed", "use_cudnn", "input_dim"),
        "enable_caching_device",
    )
    n_states = 2
    n_inputs = None
    sequence = staticmethod(lstm)

    @classmethod
    def check_config(cls, config, version):
        yield from super().check_config(config, version)
        for name in ("activation", "recurrent_activation"):
            if config[name] == "glu":
                yield name, "glu", "halves the number of units, which an LSTM cannot use"

    def weight_shapes(self, shapes):
        features = shapes[0][-1] if shapes else None
        roles = {"kernel": (features, 4 * self.units), "recurrent_kernel": (self.units, 4 * self.units)}
        if self.use_bias:
            roles["bias"] = (4 * self.units,)
        return roles

    @property
    def masked_output(self):
        """What a masked timestep emits, by the version that wrote the file; see `lstm`."""
        if self.zero_output_for_mask:
            return "zero"
        # Keras 1 and 2 up to 2.2.4 on TensorFlow emit the state in the symbolic loop; unrolled, on Theano and from
        # 2.3 on, the output before (keras 2.2.4, backend/tensorflow_backend.py, rnn()).
        old = self.version.is_multi_backend and self.version.version < (2, 3)
        return "state" if old and self.version.backend == "tensorflow" and not self.unroll else "previous"

    def infer(self, inputs, kwargs):
        shape = inputs[0].shape
        self.require_rank(shape, 3)
        n_given = len(inputs) - 1
        if n_given not in (0, self.n_states):
            self.fail(f"it is called with {n_given} initial states; expected {self.n_states}")
        for state in inputs[1:]:
            if len(state.shape) != 2 or state.shape[1] not in (None, self.units):
                self.fail(f"an initial state has shape {state.shape}; expected (batch, {self.units})")
        batch = shape[1] if self.time_major else shape[0]
        if self.stateful and batch is None:
            self.fail("stateful is true and the batch size is not fixed; give the Input a batch_shape")
        lead = shape[:2] if self.return_sequences else (batch,)
        outputs = [Spec((*lead, self.units), self.return_sequences and inputs[0].masked)]
        if self.return_state:
            outputs += [Spec((batch, self.units))] * self.n_states
        return outputs

    def run(self, x, mask, initial_state, masked_output, states):
        """The layer over (B, T, F): outputs (B, T, U) in the order of processing, last output, h, c."""
        if self.go_backwards:
            x = x[:, ::-1]
            mask = None if mask is None else mask[:, ::-1]
        return self.sequence(
            x,
            **self.weights,
            mask=mask,
            initial_state=initial_state,
            activation=self.activation_function("activation"),
            recurrent_activation=self.activation_function("recurrent_activation"),
            masked_output=masked_output,
        )

    def start_states(self, given, batch, states):
        """The states to start from: given ones, remembered ones or None for zeros."""
        if not self.stateful:
            return given or None
        kept = states.get(self)
        if kept is not None and len(kept[0]) != batch:
            raise InputError(
                f"layer {self.name!r} (LSTM) is stateful and remembers a batch of {len(kept[0])} rows, this one has "
                f"{batch}; call reset_states() first"
            )
        if given and (self.version.is_keras3 or kept is None or not any(np.any(s) for s in kept)):
            return given
        return kept

    @property
    def zeroes_late(self):
        """Unrolled, Keras zeroes the reversed outputs of a backward layer with the mask that was not reversed."""
        return self.unroll and self.go_backwards and self.masked_output == "zero"

    def begin(self, inputs, kwargs, states):
        """What `run` starts from: x with the batch axis first, its mask (B, T) or None, states or None for zeros."""
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

    def finish(self, outputs, last, final, output_mask, states):
        """The Tensors of a call from what `run` gave."""
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
        late_zero = mask is not None and self.zeroes_late
        outputs, last, *final = self.run(x, mask, start, "previous" if late_zero else self.masked_output, states)
        if late_zero:
            # The last output goes by the last step that was processed.
            outputs = np.where(mask[:, :, np.newaxis], outputs, 0) if self.return_sequences else outputs
            last = np.where(mask[:, :1], last, 0)
        return self.finish(outputs, last, final, inputs[0].mask, states)


@register
class Bidirectional(BaseLayer):
    """A forward and a backward layer over the same input, and a merge mode."""

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
        """The backward layer's config where the file gives only the forward layer's."""
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
        (shape, masked), (shape_backward, _) = first[0], second[0]
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
        y, y_reverse = forward.value, backward.value
        if self.forward.return_sequences:
            y_reverse = np.flip(y_reverse, 0 if self.forward.time_major else 1)
        else:
            output_mask = None
        if self.merge_mode is None:
            result = [Tensor(y, output_mask), Tensor(y_reverse, output_mask)]
        else:
            result = [Tensor(merge(y, y_reverse, self.merge_mode), output_mask)]
        return result + forward_states + backward_states


def backward_layer(layer, name, version):
    """The graph.Layer of a backward half that is a copy of the forward half."""
    return replace(layer, name=name, config=Bidirectional.backward_config(layer.config, version))
