"""One timestep of LSTM, GRU and SimpleRNN as in a textbook, and the loop over time with its mask.

The specification, in NumPy, in any float dtype; simple rather than fast. The options of Keras are in recurrent.py.
"""

import numpy as np


def unroll(step, x, mask, states, masked_output="previous", number=0):
    """Run `step(x_t, states) -> states` over time; the output of a step is its state `number`, h.

    x (B, T, ...), mask (B, T) bool or None, states: tuple of arrays (B, U), or (B, *spatial, F) of a ConvLSTM
    -> outputs (B, T, U), last output (B, U), tuple of the last states.

    A masked timestep does not change the states. Its output is the previous output ("previous"; zeros at first), zeros
    ("zero") or h ("state").
    """
    zeros = np.zeros_like(states[number])
    output, outputs = zeros, []
    for t in range(x.shape[1]):
        new = step(x[:, t], states)
        if mask is None:
            output, states = new[number], new
        else:
            keep = mask[:, t].reshape(-1, *[1] * (output.ndim - 1))
            skipped = {"previous": output, "zero": zeros, "state": states[number]}[masked_output]
            output = np.where(keep, new[number], skipped)
            states = tuple(np.where(keep, after, before) for after, before in zip(new, states))
        outputs.append(output)
    return np.stack(outputs, axis=1), output, states


def split_gates(z, activation, recurrent_activation, axis=1):
    """z (B, 4U) -> the gates i f g o of an LSTM, each (B, U), after their activations; `axis` holds the units."""
    i, f, g, o = np.split(z, 4, axis)
    return recurrent_activation(i), recurrent_activation(f), activation(g), recurrent_activation(o)


def lstm_states(gates, c, activation):
    """c = f c + i g; h = o act(c)."""
    i, f, g, o = gates
    c = f * c + i * g
    return o * activation(c), c


def lstm_gates(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation):
    """z = x.K + h.R + b -> the gates i f g o, each (B, U); g, gate c of Keras, is the candidate for the cell state."""
    z = x @ kernel + states[0] @ recurrent_kernel
    if bias is not None:
        z = z + bias
    return split_gates(z, activation, recurrent_activation)


def lstm_step(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation):
    """Gates i f g o of `lstm_gates`; c = f c + i g; h = o act(c).

    x (B, F), states (h, c), kernel (F, 4U), recurrent_kernel (U, 4U), bias (4U,) or None -> (h, c).
    """
    gates = lstm_gates(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation)
    return lstm_states(gates, states[1], activation)


def gru_gates(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation, reset_after):
    """The gates z r h, each (B, U): z r = rec(x.K + b + h_tm1.R + rb), and the candidate for the state,
    h = act(x.K_h + b_h + r (h_tm1.R_h + rb_h)), or with (r h_tm1).R_h without reset_after.

    x (B, F), states (h_tm1,), kernel (F, 3U), recurrent_kernel (U, 3U). The bias is None, (3U,), or with reset_after
    (2, 3U): one for the product with x, one for the product with h.
    """
    (h,) = states
    units = h.shape[1]
    bias, recurrent_bias = bias if reset_after and bias is not None else (bias, None)
    x_z, x_r, x_h = np.split(x @ kernel if bias is None else x @ kernel + bias, 3, axis=1)
    if reset_after:
        inner = h @ recurrent_kernel
        h_z, h_r, h_h = np.split(inner if recurrent_bias is None else inner + recurrent_bias, 3, axis=1)
    else:
        h_z, h_r = np.split(h @ recurrent_kernel[:, : 2 * units], 2, axis=1)
    z, r = recurrent_activation(x_z + h_z), recurrent_activation(x_r + h_r)
    return z, r, activation(x_h + (r * h_h if reset_after else (r * h) @ recurrent_kernel[:, 2 * units :]))


def gru_step(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation, reset_after):
    """Gates z r h of `gru_gates`: h = z h_tm1 + (1 - z) h. Returns (h,)."""
    z, _, new = gru_gates(x, states, kernel, recurrent_kernel, bias, activation, recurrent_activation, reset_after)
    return (z * states[0] + (1 - z) * new,)


def simple_rnn_step(x, states, kernel, recurrent_kernel, bias, activation):
    """h = act(x.K + b + h_tm1.R).

    x (B, F), states (h,), kernel (F, U), recurrent_kernel (U, U), bias (U,) or None -> (h,).
    """
    z = x @ kernel
    if bias is not None:
        z = z + bias
    return (activation(z + states[0] @ recurrent_kernel),)
