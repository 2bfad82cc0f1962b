"""What `fastbilstm report` says of agreement: rounding is told from mistakes."""

import make_files as mf
import numpy as np
from cases import CASES
from paths import SEQ2SEQ

import fastbilstm
from fastbilstm.converted import fbl_file, self_check
from fastbilstm.report import agreement as report_agreement


def test_rounding_is_told_from_mistakes():
    """Outputs out of the tolerance pass if NumPy in float32 is as far from float64, and then only."""
    model = fastbilstm.load(SEQ2SEQ)
    vector = self_check.make(model.graph, model._tensors, 64, (50,))
    (y,) = vector.outputs
    ((_, rounding),) = report_agreement._rounded(model, list(vector.inputs))
    assert 0 < rounding < report_agreement.MOST_ROUNDING
    for factor, ok in ((0, True), (2, True), (20, False), (1e5, False)):
        moved = (y + factor * rounding * np.abs(y).max() * (np.arange(y.size) == 7).reshape(y.shape),)
        vector = fbl_file.Vector(vector.inputs, moved, "keras 3.99")
        assert report_agreement._agreement(model, vector, "", "").ok == ok, factor


def test_a_mask_value_that_float32_does_not_hold():
    """0.1 in float32 is not 0.1 in float64: no rounding, but no mistake of the engine either."""
    config = mf.sequential(
        mf.input_layer("x", (None, 6, 4), "float32"), mf.layer("Masking", "masking", mask_value=0.1), mf.lstm()
    )
    model = fastbilstm.load(mf.h5(config, mf.weights_of(lstm=mf.lstm_weights(4, 3))))
    vector = self_check.make(model.graph, model._tensors, 64, exact=True)
    found = report_agreement._agreement(model, vector, "", "")
    assert found.ok and found.largest > report_agreement.MOST_ROUNDING
    assert "as the specification in float32" in found.outputs[0].verdict
    recorded = fbl_file.Vector(vector.inputs, vector.outputs, "keras 3.99")
    assert not report_agreement._agreement(model, recorded, "", "").ok


def test_a_model_that_takes_three_rows_only(monkeypatch):
    case = next(case for case in CASES if case.name == "ops-rows-keras3")
    model = fastbilstm.load(**case.load_args())
    monkeypatch.setattr(model, "vector", self_check.make(model.graph, model._tensors))  # no Keras file
    found, missing = report_agreement.agreements(model, None)
    assert [one.rows for one in found] == [3, 3] and all(one.ok for one in found)
    assert len(missing) == 1 and "--against" in missing[0]


def test_histogram_counts_every_element():
    errors = np.array([1e-20, 1e-9, 9.9e-7, 1e-6, 1.01e-6, 3e-6])
    edges, counts = report_agreement._bins(errors)
    assert sum(counts) == errors.size and edges[0] == 0 and edges[1] < 3e-6 * 1e-7 and edges[-1] > 3e-6
    for low, high, count in zip(edges, edges[1:], counts):
        assert count == ((errors >= low * (1 - 1e-12)) & (errors < high * (1 - 1e-12))).sum()
    assert report_agreement._bins(np.zeros(0)) == ((), ())
