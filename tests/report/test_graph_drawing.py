"""The drawing of a graph in the page of `fastbilstm report`: boxes, edges, masks, options."""

from itertools import combinations

import make_files as mf
import pytest
from built_nets import Net
from paths import DEMO, SEQ2SEQ

import fastbilstm
from fastbilstm.engine.summary import layer_rows
from fastbilstm.report import graph_drawing as report_graph
from fastbilstm.report.page import options_text


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


def test_calls_that_only_make_masks_are_not_drawn():
    """Keras 3 writes the mask of an Embedding down as a NotEqual that the LSTM reads as its mask."""
    model = fastbilstm.sample_model()
    boxes, edges = report_graph._boxes_and_edges(model._plan.network, None, 0)
    names = [box.lines[0] for box in boxes]
    layers = ["embedding", "bidirectional", "attention", "global_average_pooling1d", "dropout", "dense"]
    assert names == ["ids", *layers, "output dense"]
    masked = {(source.lines[0], target.lines[0]) for source, target, flag, _ in edges if flag}
    assert ("embedding", "bidirectional") in masked and ("ids", "embedding") not in masked
    assert 'class="edge masked"' in report_graph.draw(model._plan.network)


def test_masks_are_drawn_where_something_else_reads_them():
    """A mask that is an output, or that a layer reads as an input, is no bookkeeping."""
    keras = pytest.importorskip("keras", reason="needs Keras")
    x = keras.Input((None,), dtype="int32", name="x")
    mask = keras.ops.not_equal(x, 0)
    both = keras.ops.logical_and(mask, keras.ops.less(x, 9))
    y = keras.layers.LSTM(3)(keras.layers.Embedding(10, 2)(x), mask=both)
    for outputs, hidden in (([y], 3), ([y, both], 0), ([y, mask], 2)):
        graph = fastbilstm.load(keras.Model(x, outputs)).graph
        assert len(report_graph.mask_nodes(graph)) == hidden
    other = keras.Input((None,), dtype="bool", name="given")  # would stand alone
    y = keras.layers.LSTM(3)(keras.layers.Embedding(10, 2)(x), mask=keras.ops.logical_not(other))
    assert not report_graph.mask_nodes(fastbilstm.load(keras.Model([x, other], y)).graph)
