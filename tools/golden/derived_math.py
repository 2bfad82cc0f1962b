"""Old Keras worked out by hand: loops over plain Python floats, for the tiny sizes of the derived cases only.

Lists in, lists out: x[t][f], weights as nested lists. Nothing here is fast or general, and nothing is imported from
the package it is meant to test.
"""

import math


def hard_sigmoid(v):
    """Keras 1.2.2 keras/backend/tensorflow_backend.py:2466 and 2.2.4 :3394: clip(0.2 v + 0.5, 0, 1)."""
    return min(max(0.2 * v + 0.5, 0.0), 1.0)


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def row_times(row, matrix):
    return [sum(row[k] * matrix[k][j] for k in range(len(row))) for j in range(len(matrix[0]))]


def lstm(x, weights, mask=None, states=None, *, gate=hard_sigmoid, act=math.tanh, rule="state", reverse=False):
    """One row through an LSTM: (outputs of every step in processing order, h, c).

    `weights`: {"W": {gate: matrix}, "U": {gate: matrix}, "b": {gate: list}}, gates i, f, c, o, as Keras 1 keeps them
    (1.2.2 keras/layers/recurrent.py:830). `rule` is what a masked step emits: "state" the state h (1.2.2
    keras/backend/tensorflow_backend.py:2169, 2.2.4 :2974), "previous" the output before it, zeros at first (unrolled:
    1.2.2 :2089, 2.2.4 :2884; Theano: 2.2.4 keras/backend/theano_backend.py:1533; 2.3.1 delegates to tf.keras).
    """
    units = len(weights["b"]["i"])
    h, c = states if states else ([0.0] * units, [0.0] * units)
    steps = range(len(x))
    emitted, previous = [], [0.0] * units
    for t in reversed(steps) if reverse else steps:
        if mask is not None and not mask[t]:
            output = h if rule == "state" else previous
        else:
            z = {
                name: [
                    a + b + d
                    for a, b, d in zip(
                        row_times(x[t], weights["W"][name]),
                        row_times(h, weights["U"][name]),
                        weights["b"][name],
                        strict=True,
                    )
                ]
                for name in "ifco"
            }
            c = [gate(z["f"][u]) * c[u] + gate(z["i"][u]) * act(z["c"][u]) for u in range(units)]
            h = [gate(z["o"][u]) * act(c[u]) for u in range(units)]
            output = h
        emitted.append(output)
        previous = output
    return emitted, h, c


def bidirectional(x, forward, backward, mask=None, *, merge_mode="concat", sequences=True, states=None, **options):
    """Keras 1.2.2 keras/layers/wrappers.py:201 and 2.0.5 and 2.2.4 `Bidirectional.call`: masked steps are not zeroed.

    The backward half is flipped back (K.reverse(y_rev, 1)) when sequences are returned.
    """
    first, second = states if states else (None, None)
    there, *_ = lstm(x, forward, mask, first, **options)
    back, *_ = lstm(x, backward, mask, second, reverse=True, **options)
    back = back[::-1] if sequences else back
    pairs = zip(there, back, strict=True) if sequences else [(there[-1], back[-1])]
    merged = [merge(a, b, merge_mode) for a, b in pairs]
    if merge_mode is None:
        merged = [[pair[k] for pair in merged] for k in (0, 1)]
        return merged if sequences else [half[0] for half in merged]
    return merged if sequences else merged[0]


def merge(a, b, mode):
    if mode == "concat":
        return [*a, *b]
    if mode is None:
        return (a, b)
    operation = {
        "sum": lambda p, q: p + q,
        "mul": lambda p, q: p * q,
        "ave": lambda p, q: (p + q) / 2,
        "max": max,
    }[mode]
    return [operation(p, q) for p, q in zip(a, b, strict=True)]


def dense(row, matrix, bias, act=lambda v: v):
    return [act(v + b) for v, b in zip(row_times(row, matrix), bias, strict=True)]


def softmax(row):
    top = max(row)
    powers = [math.exp(v - top) for v in row]
    return [p / sum(powers) for p in powers]


def batch_normalization(row, gamma, beta, mean, variance, epsilon):
    """1.2.2 keras/layers/normalization.py:137: what is called running_std holds the variance."""
    return [
        (v - m) / math.sqrt(s + epsilon) * g + b for v, g, b, m, s in zip(row, gamma, beta, mean, variance, strict=True)
    ]
