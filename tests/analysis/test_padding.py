"""Where padding matters and which layer is the reason: read from the plan, and from errors.

That answers stay the same with any amount of masked padding is tested in engine/test_plan.py and inputs/.
"""

import make_files as mf
import numpy as np
import pytest
from ragged_rows import padded

import fastbilstm
from fastbilstm import InputError


def test_what_makes_padding_matter_is_named():
    rows = [np.ones((2, 4)), np.ones((3, 4))]
    words = (
        r"'x': its rows have 2 to 3 timesteps, and layer 'lstm' \(LSTM\), which no mask reaches, makes padding matter"
    )
    with pytest.raises(InputError, match=rf'{words}; pass pad="pre" or pad="post", and maxlen='):
        mf.floats().predict(rows)
    config = mf.sequential(mf.input_layer(), mf.embedding(), mf.layer("GlobalMaxPooling1D", "top"))
    model = fastbilstm.load(mf.h5(config, mf.weights_of(embedding={"embeddings": (7, 4)})))
    with pytest.raises(InputError, match=r"layer 'top' \(GlobalMaxPooling1D\) makes padding matter"):
        model.predict([[1, 2], [3]])
    assert model.predict([[1, 2], [3]], pad="post").shape == (2, 4)
    stateful = mf.floats(batch=2, stateful=True)
    with pytest.raises(InputError, match=r"layer 'lstm' is stateful: .*; pass pad="):
        stateful.predict(rows)
    y = stateful.predict(rows, pad="post", value=1)
    stateful.reset_states()
    np.testing.assert_array_equal(y, stateful.predict(padded(rows, "post", 1, width=3)))


def test_padding_is_told():
    found = fastbilstm.load(mf.h5())._plan.padding
    assert found.free and found.layer == "" and found.values == (0.0,) and found.outputs == (None,)
    found = mf.floats()._plan.padding
    assert not found.free and found.layer == "layer 'lstm' (LSTM), which no mask reaches,"
