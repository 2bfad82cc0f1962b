"""Golden models of preprocessing: norms of a row, Rescaling, Normalization, lookups and raw text; activation layers."""

import numpy as np

from .registry import BOTH, KERAS, TF_KERAS, case, fixed, floats, is_keras3

TEXTS = [
    "The quick, brown fox's ÄÖÜ-Straße!  JUMPS over the lazy dog",
    "",
    "   ",
    "😀 emoji 👨‍👩‍👧 it's; e\u0301 and É",
    "tab\tnew\nline\x0bv\x0cf\rr 123 4.5%",
    "ÄÖÜ äöü İI the a\u00a0b\u2003c",
    "Don't STOP … “quotes” the quick the",
]
WORDS = ["the", "quick", "fox", "foxs", "dont", "äöü", "ÄÖÜ", "emoji", "😀", "123", "t", "e", "the quick", "line v"]


def texts(rng):
    return np.array(TEXTS)[:, np.newaxis]


def branches(k, shape, make, dtype=None, mask=None):
    """Each of the layers that `make` gives, on one input; behind a Masking if `mask`."""
    x = i = k.Input(shape, dtype=dtype)
    x = k.layers.Masking()(x) if mask else x
    return k.Model(i, [layer(x) for layer in make(k.layers)])


def masked_floats(rng):
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    x[1, 3:] = 0
    x[2, :2] = 0
    return x


FORMS = (("h5", TF_KERAS), ("keras", KERAS))

# Norms.
for _form, _writer in FORMS:
    case(
        "norm2",
        f"group_{_form}",
        "GroupNormalization: groups, -1 for one channel each, axis, scale, center, epsilon",
        floats(3, 4, 6),
        lambda k: branches(
            k,
            (4, 6),
            lambda L: [
                L.GroupNormalization(3),
                L.GroupNormalization(-1, scale=False),
                L.GroupNormalization(1, center=False, epsilon=1e-5),
                L.GroupNormalization(2, axis=1),
                L.GroupNormalization(2, axis=-2),
            ],
        ),
        form=_form,
        on=(_writer,),
    )
    case(
        "norm2",
        f"unit_{_form}",
        "UnitNormalization over one and two axes; a row of zeros",
        masked_floats,
        lambda k: branches(
            k,
            (5, 4),
            lambda L: [L.UnitNormalization(), L.UnitNormalization(axis=[1, 2]), L.UnitNormalization(axis=1)],
        ),
        form=_form,
        on=(_writer,),
    )
    case(
        "norm2",
        f"rms_{_form}",
        "RMSNormalization",
        floats(3, 4, 6),
        lambda k: branches(k, (4, 6), lambda L: [L.RMSNormalization(), L.RMSNormalization(axis=[1, 2], epsilon=0.1)]),
        form=_form,
        on=(KERAS,),
    )
case(
    "norm2",
    "group_rank_4",
    "GroupNormalization of images, with a Dense before and behind",
    floats(2, 2, 3, 4),
    lambda k: branches(k, (2, 3, 4), lambda L: [L.GroupNormalization(2), L.GroupNormalization(1, axis=2)]),
)


def adapted(layer, *shape):
    layer.adapt(np.random.default_rng(5).normal(1, 2, shape).astype(np.float32))
    return layer


def normalizations(L):
    return [
        adapted(L.Normalization(), 7, 5, 4),
        adapted(L.Normalization(axis=None), 7, 5, 4),
        adapted(L.Normalization(axis=(1, 2)), 7, 5, 4),
        adapted(L.Normalization(axis=1, invert=True), 7, 5, 4),
        L.Normalization(mean=0.3, variance=2.0),
        L.Normalization(mean=[1.0, 0.1, -1.0, 2.0], variance=[1.0, 0.0, 4.0, 0.7], invert=True),
        L.Normalization(axis=None, mean=1.0, variance=4.0),
    ]


for _form, _writer in FORMS:
    case(
        "norm2",
        f"adapted_{_form}",
        "Normalization: axes, adapted or given, invert, a variance of 0",
        floats(3, 5, 4),
        lambda k: branches(k, (5, 4), normalizations),
        form=_form,
        on=(_writer,),
    )
case(
    "norm2",
    "adapted_ids",
    "whole numbers into Normalization and Rescaling",
    fixed([[1, 2, 3], [4, 5, 60]], "int32"),
    lambda k: branches(k, (3,), lambda L: [adapted(L.Normalization(), 7, 3), L.Rescaling(0.1, -3.0)], dtype="int32"),
)
case(
    "norm2",
    "rescaling",
    "Rescaling with and without offset; Identity",
    floats(3, 4),
    lambda k: branches(k, (4,), lambda L: [L.Rescaling(1 / 255), L.Rescaling(2.5, offset=-0.3), L.Identity()]),
)
case(
    "norm2",
    "rescaling_array",
    "Rescaling of each feature by its own numbers",
    floats(3, 4),
    lambda k: branches(k, (4,), lambda L: [L.Rescaling([0.1, 2.0, -3.0, 0.5], offset=[0.3, 0.0, 1.0, 2.0])]),
    on=(KERAS,),
)


def which_pass_masks(k):
    i = k.Input((5, 4))
    m = k.layers.Masking()(i)
    layers = [
        k.layers.Rescaling(2.0),
        k.layers.Normalization(mean=1.0, variance=2.0),
        k.layers.Identity(),
        k.layers.UnitNormalization(),
        k.layers.PReLU(shared_axes=[1]),
        k.layers.ReLU(2.0),
    ]
    if is_keras3(k):
        layers += [k.layers.GroupNormalization(2), k.layers.RMSNormalization()]
    return k.Model(i, [k.layers.LSTM(2)(layer(m)) for layer in layers])


case("norm2", "masks", "which of these layers pass the mask on", masked_floats, which_pass_masks)


# Activation layers.
def activations(L):
    found = [L.PReLU(shared_axes=[1]), L.PReLU(), L.PReLU(shared_axes=[1, 2]), L.ReLU(2.0, 0.125, 0.25), L.ReLU(1.0)]
    return [*found, L.ELU(0.5), L.LeakyReLU(0.25), L.Softmax(), L.Softmax(axis=1), L.Softmax(axis=[1, 2])]


for _form, _writer in FORMS:
    case(
        "activation2",
        f"layers_{_form}",
        "PReLU with shared axes, ReLU, ELU, LeakyReLU and Softmax over several axes",
        floats(3, 5, 4),
        lambda k: branches(k, (5, 4), activations),
        form=_form,
        on=(_writer,),
    )
case(
    "activation2",
    "thresholded",
    "ThresholdedReLU",
    floats(3, 5, 4),
    lambda k: branches(k, (5, 4), lambda L: [L.ThresholdedReLU(), L.ThresholdedReLU(0.5)]),
    on=(TF_KERAS,),
)


def softmax_masks(k, **options):
    x, keep = k.Input((5, 4)), k.Input((5, 4), dtype="bool")
    layers = [k.layers.Softmax(axis=axis, **options) for axis in (-1, 1, [1, 2])]
    return k.Model([x, keep], [layer(x, mask=keep) for layer in layers])


def some_kept(rng):
    keep = rng.random((3, 5, 4)) < 0.6
    keep[0, :, 1] = False
    return keep


case("activation2", "softmax_mask", "a mask over one and two axes", [floats(3, 5, 4), some_kept], softmax_masks)
case(
    "activation2",
    "softmax_robust",
    "tf.keras' robust_masking",
    [floats(3, 5, 4), some_kept],
    lambda k: softmax_masks(k, robust_masking=True),
    on=(TF_KERAS,),
)


# Lookups.
def integer_lookups(L):
    common = {"vocabulary": [5, -7, 9]}
    found = [
        L.IntegerLookup(**common),
        L.IntegerLookup(**common, mask_token=0),
        L.IntegerLookup(**common, num_oov_indices=3),
        L.IntegerLookup(vocabulary=[0, -1, 5, 9], mask_token=0),
        L.IntegerLookup(**common, mask_token=0, output_mode="multi_hot"),
        L.IntegerLookup(**common, output_mode="count", max_tokens=6, pad_to_max_tokens=True),
        L.IntegerLookup(**common, invert=True),
        L.CategoryEncoding(12, "multi_hot"),
        L.CategoryEncoding(12, "count"),
    ]
    return found


INTEGERS = fixed([[5, 9, 0], [1, 5, 5], [9, 2, 3]], "int64")
case(
    "lookup",
    "integers",
    "IntegerLookup: mask, OOV indices, encodings, invert; CategoryEncoding",
    INTEGERS,
    lambda k: branches(k, (3,), integer_lookups, dtype="int64"),
)
case(
    "lookup",
    "one_column",
    "one_hot of one column; floats are truncated",
    fixed([[5], [9.7], [0]]),
    lambda k: branches(
        k,
        (1,),
        lambda L: [
            L.IntegerLookup(vocabulary=[5, 9], output_mode="one_hot"),
            L.CategoryEncoding(10, "one_hot"),
            L.IntegerLookup(vocabulary=[5, 9]),
        ],
    ),
)
case(
    "lookup",
    "deep",
    "Keras 3's encodings of more than one column, and of three axes",
    fixed([[[5, 9], [0, 0]], [[1, 5], [5, 2]]], "int64"),
    lambda k: branches(
        k,
        (2, 2),
        lambda L: [L.IntegerLookup(vocabulary=[5, 9], output_mode=m) for m in ("one_hot", "multi_hot", "count")],
        dtype="int64",
    ),
    on=(KERAS,),
)
case(
    "lookup",
    "bins",
    "Discretization: a value at a boundary, NaN, infinity; boundaries in float32",
    fixed([[np.nan, 0.1, 0.7, -5.0], [np.inf, -np.inf, 0.69999999, 3.0]]),
    lambda k: branches(
        k,
        (4,),
        lambda L: (
            [L.Discretization([0.1, 0.7])]
            + [L.Discretization([-1.0, 0.1, 2.5], output_mode=m) for m in ("multi_hot", "count")]
        ),
    ),
)


def string_lookups(L):
    common = {"vocabulary": ["rot", "grün", "😀", ""]}
    return [
        L.StringLookup(**common),
        L.StringLookup(**common, mask_token="m"),
        L.StringLookup(vocabulary=["m", "[UNK]", "rot", "blau"], mask_token="m"),
        L.StringLookup(**common, output_mode="multi_hot", mask_token="m"),
        L.StringLookup(**common, output_mode="count", max_tokens=7, pad_to_max_tokens=True),
        L.StringLookup(vocabulary=["rot", "blau"], idf_weights=[0.5, 0.25], output_mode="tf_idf"),
    ]


STRINGS = fixed([["rot", "grün", "[UNK]"], ["blau", "m", ""], ["Rot", "😀", "rot"]], None)
for _form in ("h5", "keras"):
    case(
        "lookup",
        f"strings_{_form}",
        "StringLookup: mask, OOV, special tokens in the vocabulary, encodings, tf_idf",
        STRINGS,
        lambda k: branches(k, (3,), string_lookups, dtype="string"),
        form=_form,
        on=BOTH if _form == "keras" else (KERAS,),
    )


def there_and_back(k):
    x = k.Input((3,), dtype="string")
    numbers = k.layers.StringLookup(vocabulary=["rot", "blau"])(x)
    back = k.layers.StringLookup(vocabulary=["rot", "blau"], invert=True)(numbers)
    return k.Model(x, [numbers, k.layers.StringLookup(vocabulary=["blau", "rot", "x"])(back)])


case("lookup", "strings_back", "invert gives strings, which go on", STRINGS, there_and_back)


def vectorizers(split, ngrams):
    def make(L):
        common = {"vocabulary": WORDS, "split": split, "ngrams": ngrams}
        by_standard = ("lower_and_strip_punctuation", "lower", "strip_punctuation", None)
        return [
            *(L.TextVectorization(**common, standardize=how, output_sequence_length=9) for how in by_standard),
            L.TextVectorization(**common),
            L.TextVectorization(**common, output_mode="multi_hot", max_tokens=20, pad_to_max_tokens=True),
            L.TextVectorization(**common, output_mode="count"),
            L.TextVectorization(**common, idf_weights=[0.25] * len(WORDS), output_mode="tf_idf"),
        ]

    return make


for _split, _ngrams in (("whitespace", None), ("whitespace", 2), ("character", None), (None, None)):
    case(
        "lookup",
        f"text_{_split}_{_ngrams}".lower(),
        "TextVectorization of umlauts, emoji, digits, empty texts, all kinds of white space",
        texts,
        lambda k, s=_split, n=_ngrams: branches(k, (1,), vectorizers(s, n), dtype="string"),
        on=BOTH if _split else (KERAS,),
        form="keras",
    )
case(
    "lookup",
    "text_ngrams",
    "ngrams of chosen widths; of words that are given apart",
    fixed([["the", "quick!", "fox"], ["fox", "the", "quick"]], None),
    lambda k: branches(
        k,
        (3,),
        lambda L: [
            L.TextVectorization(vocabulary=WORDS, split=None, ngrams=n, **more)
            for n in (2, (2, 3))
            for more in ({}, {"output_sequence_length": 4}, {"output_mode": "count"})
        ],
        dtype="string",
    ),
    form="keras",
)


def classifier(k):
    text, color, numbers = k.Input((1,), dtype="string"), k.Input((1,), dtype="string"), k.Input((3,))
    words = k.layers.TextVectorization(output_sequence_length=6)
    words.adapt(TEXTS[:4])
    colors = k.layers.StringLookup(output_mode="one_hot")
    colors.adapt(["rot", "grün", "rot"])
    x = k.layers.Embedding(40, 3, mask_zero=True)(words(text))
    x = k.layers.Bidirectional(k.layers.LSTM(2))(x)
    c = k.layers.Reshape((3,))(colors(color))
    x = k.layers.Concatenate()([x, c, adapted(k.layers.Normalization(), 9, 3)(numbers)])
    return k.Model([text, color, numbers], k.layers.Dense(2, activation="softmax")(x))


case(
    "lookup",
    "classifier",
    "vocabularies from adapt() in assets; text, a category and numbers into a BiLSTM and a Dense",
    [texts, lambda rng: np.array(["rot", "grün", "blau", "", "rot", "Rot", "grün"])[:, None], floats(7, 3)],
    classifier,
    form="keras",
)


def inside(k):
    i = k.Input((1,), dtype="string")
    words = k.layers.TextVectorization()
    words.adapt(TEXTS[:4])
    model = k.Model(i, k.layers.Embedding(40, 3, mask_zero=True)(words(i)))
    j = k.Input((1,), dtype="string")
    counts = k.layers.TextVectorization(output_mode="count")
    counts.adapt(TEXTS[2:])
    return k.Model(j, [k.layers.LSTM(2)(model(j)), k.layers.Dense(2)(counts(j))])


case("lookup", "nested", "a vocabulary in a model inside the model", texts, inside, form="keras")
case(
    "lookup",
    "sequential",
    "text into a Sequential model",
    texts,
    lambda k: k.Sequential(
        [
            k.Input((1,), dtype="string"),
            k.layers.TextVectorization(vocabulary=WORDS[:5], output_sequence_length=5),
            k.layers.Embedding(7, 3),
            k.layers.LSTM(2),
        ]
    ),
)
