"""Malformed converted files (.fbl): headers, offsets, graph, weights, checksum; each has its own error.

Where a check lies behind the SHA-256, the damaged file is signed anew. Random damage is in test_fuzz.py.
"""

import functools
import json

import make_files as mf
import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

import fastbilstm

GOOD = mf.converted()
HEADER, DATA = mf.split_fbl(GOOD)
NAMES = [name for name in HEADER if name != "__metadata__"]
KERNEL = "lstm/kernel"


@pytest.fixture
def refused(tmp_path):
    return functools.partial(mf.assert_refused, tmp_path, name="model.fbl")


def test_signing_anew_gives_the_same_file():
    assert json.loads(json.dumps(HEADER)) == mf.split_fbl(mf.join_fbl(HEADER, DATA))[0]
    np.testing.assert_array_equal(
        fastbilstm.load(mf.join_fbl(HEADER, DATA)).predict(mf.IDS), fastbilstm.load(GOOD).predict(mf.IDS)
    )


# ---- the layout -----------------------------------------------------------------------------------------------------


def with_length(length, content=GOOD):
    return length.to_bytes(8, "little") + content[8:]


def entry(name=KERNEL, **changed):
    """The header's text with one array's entry changed."""
    header = {**HEADER, name: {**HEADER[name], **changed}}
    return mf.join_fbl(header, DATA)


BEGIN, END = HEADER[KERNEL]["data_offsets"]
FIRST = min(NAMES, key=lambda name: HEADER[name]["data_offsets"])
LAST = max(NAMES, key=lambda name: HEADER[name]["data_offsets"])
EMPTY = {"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}
RAW = json.dumps(HEADER)
LAYOUT = {
    "truncated in the data": (GOOD[:-1], r"lies at \d+\.\.\d+, the data has"),
    "truncated in the header": (GOOD[:200], r"claims a header of \d+ bytes, the file has 200 \(truncated\?\)"),
    "9 bytes": (GOOD[:9], "neither a converted model nor a Keras file"),
    "header past the end": (with_length(len(GOOD)), r"claims a header of \d+ bytes, the file has \d+"),
    "header too short": (with_length(100), "its header is no valid JSON"),
    "header of 2**63 bytes": (with_length(2**63), "neither a converted model nor a Keras file"),
    "header of 100 MB": (with_length(10**8), "claims a header of 100000000 bytes, the file has"),
    "header of 0 bytes": (with_length(0), "its header is no valid JSON"),
    "no JSON": (mf.join_fbl("{'single': 1}", DATA), "its header is no valid JSON"),
    "no UTF-8": (mf.join_fbl(RAW, DATA).replace(b"fastbilstm_format", b"fastbilstm_form\xff\xfe"), "no valid JSON"),
    "deep JSON": (mf.join_fbl('{"a":' * 100_000, DATA), "its header is no valid JSON"),
    "name twice": (mf.join_fbl(RAW[:-1] + f', "{KERNEL}": {json.dumps(HEADER[KERNEL])}}}', DATA), "stands twice"),
    "key twice": (mf.join_fbl(RAW.replace('"F32"', '"F32", "dtype": "I32"', 1), DATA), "stands twice"),
    "overlap": (entry(data_offsets=[BEGIN - 4, END - 4]), "overlaps the one before it"),
    "one byte of overlap": (entry(LAST, data_offsets=[v - 1 for v in HEADER[LAST]["data_offsets"]]), "overlaps"),
    "hole": (
        mf.join_fbl({**HEADER, LAST: {**HEADER[LAST], "data_offsets": [v + 8 for v in HEADER[LAST]["data_offsets"]]}},
                    DATA + bytes(8)),
        "leaves a hole before it",
    ),
    "bytes after the end": (mf.join_fbl(HEADER, DATA + b"\0"), "1 bytes at its end belong to no array"),
    "offset 2**63": (entry(data_offsets=[2**63, 2**63 + 192]), f"{KERNEL}' lies at 9223372036854775808"),
    "offset 2**100": (entry(data_offsets=[0, 2**100]), f"{KERNEL}' lies at 0"),
    "offset negative": (entry(data_offsets=[-192, 0]), f"{KERNEL}' has data_offsets"),
    "offsets reversed": (entry(data_offsets=[END, BEGIN]), f"{KERNEL}' lies at"),
    "offset no number": (entry(data_offsets=["0", 192]), f"{KERNEL}' has data_offsets"),
    "offset a fraction": (entry(data_offsets=[0.5, 192.5]), f"{KERNEL}' has data_offsets"),
    "offset true": (entry(data_offsets=[True, 192]), f"{KERNEL}' has data_offsets"),
    "one offset": (entry(data_offsets=[0]), f"{KERNEL}' has data_offsets"),
    "dtype unknown": (entry(dtype="F33"), f"{KERNEL}' has dtype 'F33'"),
    "dtype of another size": (entry(dtype="F64"), rf"{KERNEL}' of shape \[4, 12\] needs 384 bytes, it has 192"),
    "dtype a list": (entry(dtype=["F32"]), f"{KERNEL}' has dtype"),
    "shape another": (entry(shape=[4, 13]), rf"{KERNEL}' of shape \[4, 13\] needs 208 bytes, it has 192"),
    "shape negative": (entry(shape=[-4, -12]), f"{KERNEL}' has shape"),
    "shape huge": (entry(shape=[2**40, 2**40]), f"{KERNEL}' of shape .* it has 192"),
    "shape huge and empty": (mf.join_fbl({**HEADER, "x": EMPTY}, DATA), "'x' has shape"),
    "too many axes": (entry(shape=[4, 12] + [1] * 100), f"{KERNEL}' has shape"),
    "shape no list": (entry(shape=48), f"{KERNEL}' has shape 48"),
    "entry no object": (mf.join_fbl({**HEADER, "x": 5}, DATA), "array 'x' has no dtype, shape and data_offsets"),
    "entry with more": (entry(strides=[1]), f"{KERNEL}' has no dtype, shape and data_offsets"),
    "header a list": (mf.join_fbl("[]", DATA), "neither a converted model nor a Keras file"),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUT)
def test_layout(case, refused):
    refused(*LAYOUT[case])


# ---- metadata and checksum ------------------------------------------------------------------------------------------


def metadata(sign=True, **changed):
    """The file with metadata changed; None takes an entry out."""
    kept = {key: value for key, value in {**HEADER["__metadata__"], **changed}.items() if value is not None}
    return mf.join_fbl({**HEADER, "__metadata__": kept}, DATA, sign)


METADATA = {
    "none": (mf.join_fbl(json.dumps({n: HEADER[n] for n in NAMES}), DATA), "safetensors file without fastbilstm's"),
    "foreign": (save_safetensors({"x": np.zeros((2, 2), "f4")}), "safetensors file without fastbilstm's metadata"),
    "foreign with metadata": (save_safetensors({"x": np.zeros(2)}, {"format": "pt"}), "but no converted model"),
    "values no text": (metadata(fastbilstm_format=1), "without fastbilstm's metadata"),
    "newer version": (metadata(fastbilstm_format="3"), "has format version 3; .* reads up to 2: upgrade it"),
    "version 0": (metadata(fastbilstm_format="0"), "has format version 0"),
    "version no number": (metadata(fastbilstm_format="one"), "fastbilstm_format is 'one'"),
    "version superscript": (metadata(fastbilstm_format="\u00b2"), "fastbilstm_format is '\u00b2'"),
    "version long": (metadata(fastbilstm_format="1" * 5000), "fastbilstm_format is"),
    "SHA-256 of another file": (metadata(False, sha256="0" * 64), "SHA-256 does not match: the file was damaged"),
    "no SHA-256": (metadata(False, sha256=None), "SHA-256"),
    "a weight changed": (GOOD[:-4] + b"\0\0\0\0", "SHA-256 does not match"),
    "keras changed": (metadata(False, keras="keras 1.0"), "SHA-256 does not match"),
    "vector no JSON": (metadata(vector="{"), "its self-check vector is malformed"),
    "vector a list": (metadata(vector="[]"), "its self-check vector is malformed"),
    "vector of too many": (metadata(vector='{"inputs": 9, "outputs": 1, "computed_by": "x"}'), "vector is malformed"),
    "vector of 10**12": (metadata(vector='{"inputs": 1000000000000, "outputs": 1, "computed_by": "x"}'), "malformed"),
    "vector of none": (metadata(vector='{"inputs": 0, "outputs": 1, "computed_by": "x"}'), "vector does not fit"),
    "vector of -1": (metadata(vector='{"inputs": 1, "outputs": -1, "computed_by": "x"}'), "self-check vector has 0"),
    "graph missing": (metadata(graph=None), "its graph is missing or no valid JSON"),
    "graph cut": (metadata(graph=HEADER["__metadata__"]["graph"][:-1]), "its graph is missing or no valid JSON"),
    "graph deep": (metadata(graph="[" * 100_000), "its graph is missing or no valid JSON"),
    "graph a number": (metadata(graph="3"), "the graph is malformed"),
    "graph empty": (metadata(graph="{}"), "the graph is malformed: KeyError"),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata(case, refused):
    refused(*METADATA[case])


# ---- the graph ------------------------------------------------------------------------------------------------------


def put(value, *path):
    """An edit of the graph that sets one value."""

    def edit(graph):
        where = graph
        for key in path[:-1]:
            where = where[key]
        where[path[-1]] = value

    return edit


def nest(depth):
    def edit(graph):
        value = {"$ref": [0, 0]}
        for _ in range(depth):
            value = [value]
        graph["nodes"][0]["args"] = value

    return edit


def ref(node, tensor=0):
    return [{"$ref": [node, tensor]}]


EMBEDDING, LSTM = ("layers", 0), ("layers", 1)
GRAPH = {
    "weights missing": (put({"embeddings": "gone"}, *EMBEDDING, "weights"), r"the weights \['gone'\] are missing"),
    "role missing": (put({"kernel": KERNEL}, *LSTM, "weights"), r"layer 'lstm' \(LSTM\): it has weights \['kernel'\]"),
    "weights swapped": (put("lstm/recurrent_kernel", *LSTM, "weights", "kernel"), r"kernel has shape \(3, 12\)"),
    "units another": (put(4, *LSTM, "config", "units"), r"kernel has shape \(4, 12\); the model needs \(4, 16\)"),
    "units huge": (put(10**12, *LSTM, "config", "units"), r"layer 'lstm' \(LSTM\): its kernel has shape"),
    "units negative": (put(-3, *LSTM, "config", "units"), "'lstm' .*option units=-3"),
    "units infinite": (put(float("inf"), *LSTM, "config", "units"), "'lstm' .*option units=inf"),
    "activation unknown": (put("wavy", *LSTM, "config", "activation"), "'lstm' .*option activation='wavy'"),
    "activation a list": (put([], *LSTM, "config", "activation"), r"'lstm' .*option activation=\[\]"),
    "option missing": (put({"units": 3}, *LSTM, "config"), "'lstm' .*option 'activation' is missing"),
    "class unknown": (put("Own", *LSTM, "class_name"), "layer 'lstm': class 'Own' is unknown"),
    "Lambda": (put("Lambda", *LSTM, "class_name"), "its Lambda layers are in no file: give .*'lstm': function"),
    "cycle": (put(ref(2), "nodes", 0, "args"), "node 0 uses a tensor that comes after it"),
    "own output": (put(ref(1), "nodes", 0, "args"), "node 0 uses a tensor that comes after it"),
    "node negative": (put(ref(-1), "nodes", 1, "args"), "node 1 uses a tensor"),
    "tensor missing": (put(ref(1, 5), "nodes", 1, "args"), "output 5 of node 1 is used"),
    "layer missing": (put(9, "nodes", 0, "layer"), "node 0 calls layer 9, which is missing"),
    "layer negative": (put(-1, "nodes", 0, "layer"), "node 0 calls layer -1"),
    "output missing": (put([[77, 0]], "outputs"), "an output refers to node 77"),
    "output without name": (put([], "output_names"), "1 outputs, 0 names"),
    "args constants": (put([3], "nodes", 0, "args"), "called with something else than tensors"),
    "args none": (put([], "nodes", 0, "args"), "called with something else than tensors"),
    "args deep": (nest(300), "something else than tensors|malformed|contradicts itself"),
    "ref of text": (put([{"$ref": ["a", 0]}], "nodes", 0, "args"), "the graph is malformed"),
    "keras unknown": (put(["keras9", [9], "tensorflow"], "keras"), "framework 'keras9' is unknown"),
    "dtype unknown": (put("float12", "dtype"), "dtype is 'float12'"),
    "input shape negative": (put([None, -4], "inputs", 0, "shape"), "input 'ids' has shape"),
    "input shape infinite": (put([None, float("inf")], "inputs", 0, "shape"), "the graph is malformed"),
    "input shape of another rank": (put([None, 4, 4], "inputs", 0, "shape"), "4 axes|expected 3 axes"),
    "input dtype": (put("complex64", "inputs", 0, "dtype"), "input 'ids' has dtype 'complex64'"),
    "layer never called": (lambda graph: graph["layers"].append(graph["layers"][2]), "layer 'dense' is never called"),
    "no layers": (put([], "layers"), "node 0 calls layer 0, which is missing"),
    "wrapper of nothing": (put("Bidirectional", *LSTM, "class_name"), "layer 'lstm'|contradicts itself"),
}


@pytest.mark.parametrize("case", GRAPH)
def test_graph(case, refused):
    edit, words = GRAPH[case]
    refused(mf.edit_fbl(GOOD, edit_graph=edit), words)


def test_converted_file_takes_no_config_and_no_outputs(refused):
    for options in ({"config": mf.sequential()}, {"outputs": ["lstm"]}):
        refused(GOOD, "belong to its conversion from the Keras file", **options)


def test_check_finds_numbers_that_are_not_the_recorded_ones(tmp_path):
    """A file whose weights and checksum agree, but whose vector was computed from other weights."""
    begin, _ = HEADER[KERNEL]["data_offsets"]
    content = mf.join_fbl(HEADER, DATA[:begin] + np.float32(2).tobytes() + DATA[begin + 4 :])
    assert not fastbilstm.load(content).self_check().ok
    with pytest.raises(fastbilstm.FastBiLSTMError, match="<bytes>: the self-check failed: MISMATCH"):
        fastbilstm.load(content, check=True)
