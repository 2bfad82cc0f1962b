"""Every golden case in float32 and float64; what the table covers; and that Keras still answers what was recorded."""

import os

import numpy as np
import pytest
from cases import CASES, in_dtype, listed

import fastbilstm
from fastbilstm.scoring.columns import output_list
from fastbilstm.tolerances import compare


def kind_of(y):
    return "dict" if isinstance(y, dict) else "list" if isinstance(y, list | tuple) else "array"


def is_nearer(a, b, exact):
    """Whether `a` is no further from what Keras answers in float64 than `b`, its answer in float32."""
    far = lambda y: np.abs(y.astype(np.float64) - exact).max(initial=0)  # noqa: E731
    return a.dtype.kind == "f" and a.shape == exact.shape and far(a) <= far(b) < 1e-5 * np.abs(exact).max(initial=0)


def check(case, model, dtype):
    """Compare every output of every call; all that differs is in one message."""
    wrong, exact = [], case.expected("float64")
    told = [output.dtype for output in model.outputs]
    for call, (inputs, expected) in enumerate(zip(case.inputs, case.expected(dtype), strict=True)):
        y = model.predict(in_dtype(inputs, dtype))
        assert kind_of(y) == kind_of(expected), f"call {call} gives a {kind_of(y)}, Keras a {kind_of(expected)}"
        given = [array.dtype.name for array in output_list(model, y)]
        if given != told:
            wrong.append(f"call {call}: outputs of {given}, the model tells of {told}")
        ours, theirs = listed(y), listed(expected)
        assert [label for label, _ in ours] == [label for label, _ in theirs]
        for (label, a), (_, b), (_, c) in zip(ours, theirs, listed(exact[call]), strict=True):
            result = compare(a, b, dtype)
            if a.dtype != b.dtype:
                wrong.append(f"call {call}, {label}: dtype {a.dtype}, expected {b.dtype}")
            if not result.ok and not (dtype == "float32" and is_nearer(a, b, c)):
                wrong.append(f"call {call}, {label}: {result.message}")
    assert not wrong, f"{case.name} ({case.why}; {case.writer}):\n" + "\n".join(wrong)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_case(case, dtype):
    check(case, fastbilstm.load(**case.load_args(), dtype=dtype), dtype)


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith(("guide-", "format-"))], ids=lambda c: c.name)
def test_loaded_by_path(case, tmp_path):
    check(case, fastbilstm.load(**case.load_args(tmp_path), dtype="float32"), "float32")


# What the table must cover, with the fewest cases of each: classes, options and the frameworks that wrote the files.
LAYERS = {
    "LSTM": 735,
    "GRU": 58,
    "SimpleRNN": 37,
    "CuDNNGRU": 3,
    "RNN": 55,
    "LSTMCell": 48,
    "GRUCell": 53,
    "SimpleRNNCell": 20,
    "StackedRNNCells": 37,
    "Bidirectional": 238,
    "CuDNNLSTM": 4,
    "Embedding": 127,
    "Masking": 370,
    "Dense": 234,
    "TimeDistributed": 39,
    "TimeDistributedDense": 1,
    "Merge": 7,
    "Dropout": 39,
    "SpatialDropout1D": 6,
    "GaussianNoise": 4,
    "GaussianDropout": 4,
    "AlphaDropout": 4,
    "ActivityRegularization": 4,
    "BatchNormalization": 81,
    "LayerNormalization": 18,
    "Activation": 55,
    "ReLU": 14,
    "LeakyReLU": 7,
    "ELU": 6,
    "PReLU": 14,
    "ThresholdedReLU": 1,
    "Softmax": 12,
    "Concatenate": 55,
    "Add": 36,
    "Subtract": 18,
    "Multiply": 32,
    "Average": 18,
    "Maximum": 26,
    "Minimum": 26,
    "Dot": 20,
    "Attention": 47,
    "AdditiveAttention": 20,
    "GlobalAveragePooling1D": 34,
    "GlobalMaxPooling1D": 22,
    "Flatten": 10,
    "Reshape": 8,
    "Permute": 6,
    "RepeatVector": 4,
    "Conv1D": 21,
    "SeparableConv1D": 12,
    "DepthwiseConv1D": 11,
    "Conv1DTranspose": 12,
    "MaxPooling1D": 14,
    "AveragePooling1D": 7,
    "ZeroPadding1D": 10,
    "Cropping1D": 7,
    "UpSampling1D": 7,
    "Conv2D": 12,
    "SeparableConv2D": 4,
    "DepthwiseConv2D": 6,
    "Conv2DTranspose": 5,
    "MaxPooling2D": 11,
    "AveragePooling2D": 6,
    "GlobalAveragePooling2D": 6,
    "GlobalMaxPooling2D": 2,
    "ZeroPadding2D": 7,
    "Cropping2D": 5,
    "UpSampling2D": 9,
    "SpatialDropout2D": 4,
    **dict.fromkeys(
        ("Conv3D", "Conv3DTranspose", "ZeroPadding3D", "Cropping3D", "UpSampling3D", "SpatialDropout3D"), 1
    ),
    **dict.fromkeys(("GlobalAveragePooling3D", "GlobalMaxPooling3D", "ConvLSTM1D", "ConvLSTM2D"), 1),
    **dict.fromkeys(("LocallyConnected1D", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"), 1),
    "Convolution1D": 2,
    "AtrousConvolution1D": 1,
    "Convolution2D": 3,
    "MultiHeadAttention": 34,
    "GroupQueryAttention": 2,
    "GroupNormalization": 5,
    "UnitNormalization": 4,
    "RMSNormalization": 3,
    "Rescaling": 7,
    "Normalization": 8,
    "Identity": 4,
    "Discretization": 2,
    "CategoryEncoding": 4,
    "IntegerLookup": 5,
    "StringLookup": 7,
    "TextVectorization": 15,
}
OPTIONS = """
    LSTM.return_sequences=true LSTM.return_state=true LSTM.go_backwards=true LSTM.stateful=true LSTM.unroll=true
    LSTM.time_major=true LSTM.zero_output_for_mask=true LSTM.use_bias=false LSTM.initial_state LSTM.mask
    LSTM.implementation=1 LSTM.dropout=0.2 LSTM.recurrent_dropout=0.2
    GRU.return_sequences=true GRU.return_state=true GRU.go_backwards=true GRU.stateful=true GRU.unroll=true
    GRU.time_major=true GRU.zero_output_for_mask=true GRU.initial_state GRU.mask SimpleRNN.return_sequences=true
    SimpleRNN.return_state=true SimpleRNN.go_backwards=true SimpleRNN.stateful=true SimpleRNN.unroll=true
    SimpleRNN.time_major=true SimpleRNN.zero_output_for_mask=true SimpleRNN.initial_state SimpleRNN.mask
    RNN.return_sequences=true RNN.return_state=true RNN.go_backwards=true RNN.stateful=true RNN.unroll=true
    RNN.time_major=true RNN.zero_output_for_mask=true RNN.initial_state RNN.mask GRU.reset_after=false
    GRU.use_bias=false SimpleRNN.use_bias=false GRU.implementation=1 GRUCell.reset_after=false GRUCell.use_bias=false
    Bidirectional.merge_mode=sum Bidirectional.merge_mode=mul Bidirectional.merge_mode=ave Bidirectional.merge_mode=null
    Bidirectional.backward_layer Bidirectional.initial_state
    Embedding.mask_zero=true Masking.mask_value=-1.0
    BatchNormalization.scale=false BatchNormalization.center=false LayerNormalization.scale=false
    LayerNormalization.center=false LayerNormalization.rms_scaling
    Attention.use_scale=true Attention.score_mode=concat Attention.use_causal_mask Attention.mask
    AdditiveAttention.use_scale=false Dot.normalize=true Softmax.mask TimeDistributed.mask
    GlobalAveragePooling1D.keepdims=true GlobalMaxPooling1D.keepdims=true
    MultiHeadAttention.use_bias=false MultiHeadAttention.use_gate=true MultiHeadAttention.sliding_window=2
    MultiHeadAttention.softmax_robust_masking=true MultiHeadAttention.output_shape=4
    GroupQueryAttention.use_gate=true Normalization.invert=true
    IntegerLookup.num_oov_indices=3 IntegerLookup.invert=true IntegerLookup.output_mode=multi_hot
    StringLookup.mask_token=m StringLookup.output_mode=tf_idf StringLookup.invert=true
    TextVectorization.standardize=lower TextVectorization.standardize=strip_punctuation
    TextVectorization.standardize=null TextVectorization.split=character TextVectorization.split=null
    TextVectorization.ngrams=2 TextVectorization.output_mode=count TextVectorization.output_mode=multi_hot
    TextVectorization.output_mode=tf_idf TextVectorization.pad_to_max_tokens=true
    ReLU.max_value=1.5 ReLU.negative_slope=0.25 ReLU.threshold=0.5
    Conv1D.padding=same Conv1D.padding=causal Conv1D.strides=[3] Conv1D.dilation_rate=[3] Conv1D.groups=2
    Conv1D.use_bias=false Conv1D.activation=softmax Conv1D.data_format=channels_first SeparableConv1D.padding=causal
    SeparableConv1D.depth_multiplier=2 DepthwiseConv1D.depth_multiplier=2 Conv1DTranspose.output_padding=[1]
    Conv1DTranspose.padding=same MaxPooling1D.padding=same AveragePooling1D.padding=same
    AveragePooling1D.data_format=channels_first ZeroPadding1D.data_format=channels_first
    Conv2D.padding=same Conv2D.use_bias=false Conv2D.groups=2 Conv2D.data_format=channels_first
    DepthwiseConv2D.activation=softmax MaxPooling2D.data_format=channels_first AveragePooling2D.padding=same
    GlobalAveragePooling2D.keepdims=true GlobalAveragePooling2D.data_format=channels_first
    GlobalMaxPooling2D.keepdims=true UpSampling2D.interpolation=bilinear UpSampling2D.data_format=channels_first
    Convolution2D.dim_ordering=th
""".split()
ACTIVATIONS = """
    relu leaky_relu relu6 softmax celu elu selu softplus softsign squareplus soft_shrink sparse_plus silu gelu glu tanh
    tanh_shrink sigmoid sparse_sigmoid exponential hard_sigmoid hard_silu hard_tanh hard_shrink linear mish log_softmax
    log_sigmoid sparsemax
""".split()
WRITERS = {
    "keras 3.15": 435,
    "tf_keras 2.21": 438,
    "keras 3.0": 3,
    "keras 3.3": 35,
    "keras 3.4": 30,
    "keras 3.13": 2,
    "keras 2.12": 4,
    "keras 1.2.2": 21,
    "keras 2.0.5": 3,
    "keras 2.2.4": 10,
    "keras 2.3.1": 3,
}
FORMS = {"model.h5": 574, "model.keras": 398, "model.weights.h5": 12}


def count(what):
    return sum(what in case.covers for case in CASES)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_is_covered(layer):
    assert count(layer) >= LAYERS[layer]


@pytest.mark.parametrize("option", OPTIONS)
def test_option_is_covered(option):
    assert count(option) >= 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_covered(name):
    """In Activation or Dense and, where shapes allow it, in an LSTM."""
    assert count(f"Activation.activation={name}")
    if name not in ("glu", "tanh"):
        assert count(f"LSTM.activation={name}")
    if name not in ("glu", "sigmoid"):
        assert count(f"LSTM.recurrent_activation={name}")


@pytest.mark.parametrize("writer", WRITERS)
def test_writer_is_covered(writer):
    cases = [case for case in CASES if case.writer.startswith(writer)]
    assert len(cases) >= WRITERS[writer]
    by_hand = writer.startswith(("keras 1", "keras 2.0", "keras 2.2", "keras 2.3"))
    assert all(case.derived is by_hand for case in cases)


@pytest.mark.parametrize("file", FORMS)
def test_file_kind_is_covered(file):
    assert sum(case.file == file for case in CASES) >= FORMS[file]


def test_every_case_says_why_and_derived_ones_their_source():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.why and case.writer and case.tolerance == "keras", case.name
        assert bool(case.source) is case.derived, case.name


def test_answers_are_not_trivial():
    """Answers differ from zero somewhere, and float64 answers are more than float32 ones written wider."""
    for case in CASES:
        wide = [y for answer in case.expected("float64") for _, y in listed(answer)]
        narrow = [y for answer in case.expected("float32") for _, y in listed(answer)]
        assert any(np.nan_to_num(y).any() for y in wide), case.name
        kinds = all(a.dtype == "float64" or a.dtype.kind in "biu" for a in wide)  # op nodes give whole numbers, too
        assert kinds and all(a.shape == b.shape for a, b in zip(wide, narrow, strict=True)), case.name


LIVE = (
    "guide-stack_extras_keras-keras3",
    "lstm-masked_zero_output-keras3",
    "lstm-masked_dropout-keras3",
    "merging-multiply_ranks-keras3",
    "nested-frozen_keras-keras3",
    "guide-stack_extras_h5-tf_keras",
    "merging-concatenate_two_masks-tf_keras",
    "attention-attention_two_masks-tf_keras",
)


@pytest.mark.parametrize("name", LIVE)
def test_keras_still_answers_what_was_recorded(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    for name, value in {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_NUM_INTRAOP_THREADS": "1"}.items():
        os.environ.setdefault(name, value)
    framework = pytest.importorskip(case.writer.split()[0], reason=f"needs {case.writer.split()[0]}")
    path = case.load_args(tmp_path)["path"]
    model = framework.models.load_model(path, compile=False)
    for inputs, expected in zip(case.inputs, case.expected("float32"), strict=True):
        for (_, y), (_, k) in zip(listed(model(inputs, training=False)), listed(expected), strict=True):
            result = compare(np.asarray(y), k, "float32")
            assert result.ok, result.message
