"""Golden models of file formats: weights apart from the architecture, YAML, cuDNN weights, policies, odd names."""

import json

import h5py
import numpy as np

from .graphs import block, guide, multiple, outer, siamese
from .registry import KERAS, TF_KERAS, case, chain, floats, ids, padded

# The architecture beside the weights. Legacy weights-only .h5 comes from tf_keras; .weights.h5 from both.
for _name, _inputs, _build in (
    ("stack", ids(50, 9, batch=5), lambda k: guide(k, "stack", masked=True, extras=True)),
    ("siamese", [ids(), ids(11, 4)], siamese),
    ("frozen", padded(3), lambda k: outer(k, block(k, frozen=True))),
    ("several", [ids(), floats(6, 2)], multiple),
    (
        "distributed",
        floats(2, 4, 3),
        lambda k: chain(k, (4, 3), k.layers.TimeDistributed(k.layers.Dense(3)), k.layers.LSTM(2), k.layers.PReLU()),
    ),
):
    for _form in ("weights_h5+json", "weights_h5+yaml"):
        case(
            "format",
            f"{_name}_{_form.replace('+', '_')}",
            "weights only, architecture beside it",
            _inputs,
            _build,
            on=(TF_KERAS,),
            form=_form,
        )
    case(
        "format",
        f"{_name}_weights_json",
        ".weights.h5, architecture beside it",
        _inputs,
        _build,
        form="weights.h5+json",
    )


def many_long_names(k):
    """Layer names of more than 64512 bytes in all: the attribute is split into chunks."""
    layers = [k.layers.Activation("linear", name=f"{'long_' * 48}{i:03}") for i in range(280)]
    layers[140] = k.layers.LSTM(3, return_sequences=True, name="in_the_middle")
    return chain(k, (4, 2), *layers, k.layers.Dense(2))


case("format", "chunked_names", "layer_names0, layer_names1", floats(2, 4, 2), many_long_names, form="h5")


def many_weights(k):
    """A nested model whose weight names take more than 64512 bytes: weight_names is split."""
    inner = k.Sequential(
        [k.Input((3,)), *[k.layers.Dense(3, activation="tanh", name=f"{'wide_' * 100}{i}") for i in range(80)]],
        name="deep",
    )
    x = k.Input((3,))
    return k.Model(x, inner(x))


case("format", "chunked_weights", "weight_names0, weight_names1", floats(2, 3), many_weights, form="h5", on=(TF_KERAS,))


def renamed(k):
    """A layer renamed after it was built: the dataset paths keep the old name."""
    model = guide(k, "stack")
    for i, layer in enumerate(model.layers):
        layer._name = f"renamed_{i}"
    return model


case("format", "renamed_layers", "dataset paths that do not match layer names", ids(50, 9, 5), renamed, form="h5")


def to_bytes(path):
    """Attributes as fixed-length bytes, as h5py before 3 and Keras 2 wrote them."""

    def visit(_, group):
        for name, value in list(group.attrs.items()):
            if isinstance(value, str):
                group.attrs[name] = np.bytes_(value.encode())
            elif name.startswith(("layer_names", "weight_names")) and len(value):
                group.attrs[name] = np.array([v.encode() if isinstance(v, str) else v for v in value], dtype="S")

    with h5py.File(path, "r+") as file:
        visit("", file)
        file.visititems(visit)


case(
    "format", "bytes_attributes", "attributes as bytes", ids(50, 9, 5), lambda k: guide(k, "stack"), form="h5",
    rewrite=to_bytes,
)  # fmt: skip


def compressed(path):
    """Every dataset chunked, shuffled and deflated, as h5repack does."""

    def visit(name, dataset):
        if isinstance(dataset, h5py.Dataset) and dataset.size > 1:
            names.append(name)

    names = []
    with h5py.File(path, "r+") as file:
        file.visititems(visit)
        for name in names:
            values = file[name][()]
            del file[name]
            file.create_dataset(name, data=values, chunks=True, shuffle=True, compression="gzip")


case(
    "format", "compressed_datasets", "chunked and deflated datasets", ids(50, 9, 5), lambda k: guide(k, "bilstm"),
    form="h5", rewrite=compressed,
)  # fmt: skip


def compiled(k):
    """With an optimizer's state in the file."""
    model = guide(k, "bilstm", masked=True)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.train_on_batch(np.ones((2, 9), "int32"), np.ones((2, 1), "float32"))
    return model


for _form in ("h5", "keras"):
    case("format", f"optimizer_{_form}", "the optimizer's state is in the file", ids(50, 9, 5), compiled, form=_form)

# Precision: the weights are float32 (or float64) on disk; the answer is that of a float32 (float64) twin.
for _policy in ("mixed_float16", "mixed_bfloat16", "float64"):
    for _form in ("h5", "keras"):
        case(
            "format",
            f"{_policy}_{_form}",
            "dtype policy; expected values from a twin without it",
            ids(50, 9, 5),
            lambda k: guide(k, "stack", masked=True, extras=True),
            policy=_policy,
            reference=lambda k: guide(k, "stack", masked=True, extras=True),
            form=_form,
        )


# Keras 2.12 to 2.14 wrote .keras and .weights.h5 with counters that skip: bidirectional, bidirectional_2, dense_2.
def keras212(k):
    layers = [k.layers.LSTM(3, recurrent_dropout=0.1, return_sequences=i < 2) for i in range(3)]
    return k.Sequential(
        [
            k.Input((None,), dtype="int32"),
            k.layers.Embedding(11, 4, mask_zero=True),
            k.layers.Bidirectional(layers[0]),
            k.layers.BatchNormalization(),
            k.layers.Bidirectional(layers[1], merge_mode="sum"),
            layers[2],
            k.layers.Dense(4, activation="relu"),
            k.layers.Dense(2, activation="softmax"),
        ]
    )


def keras212_functional(k):
    a, b = k.Input((5, 3)), k.Input((5, 3))
    inner = k.Sequential([k.Input((5, 3)), k.layers.Dense(4), k.layers.LSTM(3, recurrent_dropout=0.1)], name="tower")
    y = k.layers.Concatenate()([inner(a), inner(b), k.layers.LSTM(2, recurrent_dropout=0.1)(a)])
    return k.Model([a, b], k.layers.Dense(2)(k.layers.Dense(3)(y)))


for _form in ("keras", "weights.h5+json"):
    for _name, _inputs, _build in (
        ("sequential", ids(), keras212),
        ("functional", [floats(2, 5, 3)] * 2, keras212_functional),
    ):
        case(
            "format",
            f"old_{_name}_{_form.replace('+', '_').replace('.', '_')}",
            "groups under _layer_checkpoint_dependencies, counters that skip",
            _inputs,
            _build,
            on=("2.12",),
            form=_form,
        )


# cuDNN layers run on GPUs only; tf_keras itself converts their weights for the LSTM that answers.
def cudnn(k, kind, bidirectional):
    layer = {
        "cudnn": lambda **o: k.layers.CuDNNLSTM(5, **o),
        "lstm": lambda **o: k.layers.LSTM(5, **o),
    }[kind]
    if bidirectional:
        body = [k.layers.Bidirectional(layer(return_sequences=True)), k.layers.Bidirectional(layer(), merge_mode="sum")]
    else:
        body = [layer(return_sequences=True, go_backwards=True), layer()]
    return k.Sequential([k.Input((4, 3)), *body, k.layers.Dense(2)])


def call_it_lstm(path):
    """The same weights under the architecture of LSTM layers, as when they were trained on a GPU."""

    def change(value):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                change(item)
        if isinstance(value, dict) and value.get("class_name") == "CuDNNLSTM":
            value["class_name"] = "LSTM"
            value["config"] |= {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
            value["config"] |= {"unroll": False, "dropout": 0.0, "recurrent_dropout": 0.0}

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


for _bidirectional in (False, True):
    _name = "cudnn_bidirectional" if _bidirectional else "cudnn"
    for _suffix, _rewrite in (("", None), ("_as_lstm", call_it_lstm)):
        case(
            "format",
            _name + _suffix,
            "weights in cuDNN's layout",
            floats(3, 4, 3),
            lambda k, b=_bidirectional: cudnn(k, "cudnn", b),
            reference=lambda k, b=_bidirectional: cudnn(k, "lstm", b),
            reference_loads=True,
            rewrite=_rewrite,
            on=(TF_KERAS,),
            form="h5",
            tags=("CuDNNLSTM",),
        )

case(
    "format",
    "seed_generators",
    "dropout with seeds: .keras of Keras 3 holds their generators",
    floats(3, 5, 3),
    lambda k: chain(
        k,
        (5, 3),
        k.layers.Bidirectional(k.layers.LSTM(4, dropout=0.1, recurrent_dropout=0.1, return_sequences=True, seed=1)),
        k.layers.Dropout(0.2, seed=7),
        k.layers.LSTM(2, dropout=0.3, seed=2),
    ),
    on=(KERAS,),
    form="keras",
)
