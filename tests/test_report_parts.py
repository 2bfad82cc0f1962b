"""What `fastbilstm report` measures and draws: agreement, the share of each layer, the layout of the graph."""

from itertools import combinations

import make_files as mf
import numpy as np
import pytest
from built_nets import Net
from cases import CASES
from report_pages import DEMO, SEQ2SEQ

import fastbilstm
from fastbilstm.converted import fbl_file, self_check
from fastbilstm.engine.plan import vector_problem
from fastbilstm.engine.summary import layer_rows
from fastbilstm.report import agreement as report_agreement
from fastbilstm.report import graph_drawing as report_graph
from fastbilstm.report import measure as report_measure
from fastbilstm.report.page import options_text

needs_kernels = pytest.mark.skipif(vector_problem() is not None, reason="needs the vector kernels")


# ---- agreement ------------------------------------------------------------------------------------------------------


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


# ---- the share of each layer ----------------------------------------------------------------------------------------


@needs_kernels
def test_layers_are_timed_where_they_run(tmp_path):
    net = Net(ids=True)
    net.embedding(mask_zero=True)
    net.lstm("lstm", "embedding", units=3, return_sequences=True)
    net.dense("dense", "lstm", size=3)
    net.bn("bn", "dense", size=4)
    net.add("ReLU", "relu", "bn")
    net.bn("second", "relu", size=4)
    net.dense("after", "second", size=4, activation="relu")
    model = fastbilstm.load(net.content("after"), n_threads=1)
    x = net.input()
    before = model.predict(x)
    found = report_measure.speed(model, 0.3)
    shares = {share.path: share for share in found.shares}
    assert list(shares) == [("lstm",), ("dense",), ("relu",), ("after",), (report_measure.BETWEEN,)]
    assert {path: share.together for path, share in shares.items() if share.together} == {
        ("lstm",): ("embedding",),
        ("dense",): ("bn",),
        ("after",): ("second",),
    }
    assert all(seconds > 0 for share in found.shares for seconds in share.seconds.values())
    # Nothing is left behind in the network that predicts.
    assert not {"run", "call_part"} & set(vars(model._plan.runner))
    np.testing.assert_array_equal(model.predict(x), before)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
def test_times_of_layers_sum_up_to_the_call(backend):
    """A layer that takes far longer than all others has nearly all of the time, at any depth."""
    model = fastbilstm.load(SEQ2SEQ, backend=backend)
    x = report_measure.sample(model, 32, 100)
    found = report_measure._layer_seconds(model, x, 32, 0.1)
    paths = {("encoder", "encoder_lstm"), ("decoder", "decoder_lstm"), ("decoder", "token"), (report_measure.BETWEEN,)}
    assert paths <= set(found) and not {("encoder",), ("decoder",)} & set(found)
    layers = sum(found.values()) - found[report_measure.BETWEEN,]
    assert layers > found[report_measure.BETWEEN,] > 0


# ---- the graph ------------------------------------------------------------------------------------------------------


def branches():
    """Branches of different lengths, a layer called twice and an edge over many ranks."""
    net = Net()
    names = ["x"]
    for k in range(6):
        names.append(net.dense(f"chain_{k}", names[-1], units=5))
    net.add("Add", "skip", "x", "chain_1", "chain_5")
    net.add("Concatenate", "all", "skip", "chain_2", "chain_3", "chain_4", axis=-1)
    net.bidirectional("both", "all", features=20)
    return fastbilstm.load(net.content("both", "chain_0"), backend="numpy")


@pytest.mark.parametrize("make", [branches, lambda: fastbilstm.load(SEQ2SEQ), lambda: fastbilstm.load(DEMO)])
def test_boxes_do_not_overlap(make):
    network = make()._plan.network
    boxes, edges = report_graph._boxes_and_edges(network, None, 0)
    ranks = report_graph._rank(boxes, edges)
    assert len(boxes) == len(network.graph.inputs) + len(network.graph.nodes) + len(network.graph.outputs)
    report_graph._order(ranks, 12)
    width, height = report_graph._place(ranks, 36), report_graph._stack(ranks)
    everything = [box for rank in ranks for box in rank]
    for box in everything:
        assert box.x - box.width / 2 >= 0 and box.x + box.width / 2 <= width
        assert box.y - box.height / 2 >= 0 and box.y + box.height / 2 <= height
    for a, b in combinations(everything, 2):
        assert abs(a.x - b.x) >= (a.width + b.width) / 2 or abs(a.y - b.y) >= (a.height + b.height) / 2
    for source, target, _, points in edges:
        assert source.rank < target.rank and len(points) == target.rank - source.rank - 1


def test_edges_and_masks_of_the_drawing(tmp_path):
    config = mf.functional()
    (tmp_path / "model.h5").write_bytes(mf.h5(config))
    model = fastbilstm.load(tmp_path / "model.h5", backend="numpy")
    svg = report_graph.draw(model._plan.network)
    assert svg.count('class="edge masked"') == 1 and svg.count('class="edge"') == 3
    for text in ("(None, None)", "(None, None, 4)", "(None, 3)", "(None, 2)", "output dense", "LSTM(3)"):
        assert text in svg


def test_options_that_are_not_defaults():
    rows = {row.name: row for row in layer_rows(mf.floats(return_sequences=True, go_backwards=True))}
    told = options_text(rows["lstm"].layer)
    assert "return_sequences=True" in told and "go_backwards=True" in told and "stateful" not in told
