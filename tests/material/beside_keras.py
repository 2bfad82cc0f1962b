"""One layer beside the live Keras that saved it: what `predict` of both answers, by every backend that runs here."""

import numpy as np

import fastbilstm
from fastbilstm.tolerances import compare

RNG = np.random.default_rng(11)


def same(k, layers, x, path, rtol=None):
    """Compare what a saved model predicts with Keras' own answers; return the model.

    `layers` are layers or functions; each is called with the input of x. `rtol`: of the largest element, where the
    tolerance of the project is not met because Keras rounds otherwise.
    """
    given = k.Input(x.shape[1:], dtype=x.dtype.name)
    outputs = [layer(given) for layer in layers]
    model = k.Model(given, outputs if len(outputs) > 1 else outputs[0])
    model.set_weights([RNG.normal(0, 0.7, w.shape).astype(w.dtype) for w in model.get_weights()])
    expected = listed(model.predict(x, verbose=0))
    model.save(path)
    for backend in ("numpy", "vector"):
        ours = fastbilstm.load(path, backend=backend)
        for y, answer in zip(listed(ours.predict(x)), expected, strict=True):
            assert y.dtype == answer.dtype
            if rtol is None:
                found = compare(y, answer)
                assert found.ok, found.message
            else:
                np.testing.assert_allclose(y, answer, rtol=0, atol=rtol * np.abs(answer).max())
    return ours


def listed(y):
    return list(y) if isinstance(y, list | tuple) else [y]
