"""Golden models of whole graphs: the guide's nets, nested, shared and frozen parts, several inputs and outputs."""

from .registry import TF_KERAS, case, floats, ids, padded


# The guide's four nets and what people add to them.
def guide(k, net, masked=False, extras=False):
    layers = k.layers
    embedding = layers.Embedding(50, 8, mask_zero=masked, trainable=not extras)
    options = {"kernel_constraint": k.constraints.MaxNorm(3.0), "dropout": 0.2} if extras else {}
    bi = lambda units, **o: layers.Bidirectional(layers.LSTM(units, **options, **o))  # noqa: E731
    extra = [layers.BatchNormalization(), layers.Dropout(0.5)] if extras else []
    head = layers.Dense(1, activation="sigmoid", kernel_regularizer="l2" if extras else None)
    if net == "attention":
        tokens = k.Input((None,), dtype="int32")
        x = bi(6, return_sequences=True)(embedding(tokens))
        x = layers.GlobalAveragePooling1D()(layers.Attention()([x, x]))
        for layer in extra:
            x = layer(x)
        return k.Model(tokens, head(x))
    body = {
        "lstm": [layers.LSTM(6, **options)],
        "bilstm": [bi(6)],
        "stack": [bi(6, return_sequences=True), bi(4)],
    }[net]
    return k.Sequential([k.Input((None,), dtype="int32"), embedding, *body, *extra, head])


for _net in ("lstm", "bilstm", "stack", "attention"):
    for _label, _options in (
        ("", {}),
        ("_masked", {"masked": True}),
        ("_extras", {"masked": True, "extras": True}),
    ):
        for _form in ("h5", "keras"):
            case(
                "guide",
                f"{_net}{_label}_{_form}",
                "the guide's nets; extras: frozen embedding, dropout, max_norm, l2, BatchNormalization",
                ids(50, 9, batch=5),
                lambda k, n=_net, o=_options: guide(k, n, **o),
                form=_form,
            )


def word_vectors(k):
    return k.Sequential(
        [
            k.Input((None, 6)),
            k.layers.Masking(),
            k.layers.Bidirectional(k.layers.LSTM(6, return_sequences=True)),
            k.layers.Bidirectional(k.layers.LSTM(4)),
            k.layers.Dense(3, activation="softmax"),
        ]
    )


case("guide", "word_vectors", "Masking and variable length", padded(6, 7), word_vectors)


# Nested models.
def block(k, frozen=False, name="block"):
    """Sequential of Dense, BatchNormalization, Dense; frozen: its weights are saved in another order."""
    inner = k.Sequential(
        [k.Input((6, 3)), k.layers.Dense(4), k.layers.BatchNormalization(), k.layers.Dense(3, activation="tanh")],
        name=name,
    )
    inner.trainable = not frozen
    return inner


def functional_block(k):
    a, b = k.Input((6, 3)), k.Input((6, 3))
    x = k.layers.BatchNormalization()(k.layers.Add()([a, b]))
    y = k.layers.LSTM(4, return_sequences=True)(x)
    return k.Model([a, b], [y, k.layers.Dense(2)(x)], name="two_by_two")


def outer(k, inner):
    x = k.Input((6, 3))
    return k.Model(x, k.layers.LSTM(2, return_sequences=True)(inner(k.layers.Masking()(x))))


def partly_frozen(k):
    inner = block(k)
    inner.layers[1].trainable = False
    inner.layers[0].trainable = False
    return outer(k, inner)


def nested_twice(k):
    inner = k.Sequential([k.Input((6, 3)), block(k), k.layers.LSTM(3, return_sequences=True)], name="middle")
    return outer(k, inner)


def nested_functional(k):
    x, y = k.Input((6, 3)), k.Input((6, 3))
    sequence, dense = functional_block(k)([k.layers.Dense(3)(x), y])
    return k.Model([x, y], [k.layers.LSTM(2)(sequence), dense])


def shared_model(k):
    """One nested model applied to two inputs."""
    inner = k.Sequential([k.Input((6, 3)), k.layers.Masking(), k.layers.LSTM(3), k.layers.Dense(2)], name="tower")
    a, b = k.Input((6, 3)), k.Input((6, 3))
    return k.Model([a, b], k.layers.Concatenate()([inner(a), inner(b)]))


def nested_mask_inside(k):
    """The mask made inside a nested model reaches the layers outside."""
    inner = k.Sequential([k.Input((6,), dtype="int32"), k.layers.Embedding(11, 3, mask_zero=True)], name="words")
    x = k.Input((6,), dtype="int32")
    return k.Model(x, k.layers.LSTM(3, return_sequences=True)(inner(x)))


for _name, _inputs, _build in (
    ("sequential", padded(3), lambda k: outer(k, block(k))),
    ("frozen", padded(3), lambda k: outer(k, block(k, frozen=True))),
    ("partly_frozen", padded(3), partly_frozen),
    ("twice", padded(3), nested_twice),
    ("functional", [floats(2, 6, 3)] * 2, nested_functional),
    ("shared", [padded(3), padded(3)], shared_model),
    ("mask_inside", ids(), nested_mask_inside),
):
    for _form in ("h5", "keras"):
        case("nested", f"{_name}_{_form}", "a model inside a model", _inputs, _build, form=_form)


def frozen_top(k):
    """Frozen layers in a flat model."""
    model = k.Sequential(
        [
            k.Input((6, 3)),
            k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True), trainable=False),
            k.layers.BatchNormalization(trainable=False),
            k.layers.LSTM(2, trainable=False),
            k.layers.Dense(2),
        ]
    )
    return model


case("graph", "frozen_layers", "frozen layers of a flat model", floats(3, 6, 3), frozen_top)


# Shared layers, several inputs and outputs.
def siamese(k):
    a, b = k.Input((None,), dtype="int32", name="left"), k.Input((None,), dtype="int32", name="right")
    embedding = k.layers.Embedding(11, 4, mask_zero=True, name="words")
    lstm = k.layers.Bidirectional(k.layers.LSTM(3), name="reader")
    left, right = lstm(embedding(a)), lstm(embedding(b))
    y = k.layers.Concatenate(name="both")([left, right, k.layers.Multiply(name="product")([left, right])])
    return k.Model([a, b], k.layers.Dense(1, activation="sigmoid", name="same")(y))


case("graph", "shared_layers", "one Embedding and one Bidirectional, called twice", [ids(), ids(11, 4)], siamese)


def multiple(k, dict_outputs=False):
    words = k.Input((6,), dtype="int32", name="words")
    features = k.Input((2,), name="features")
    x = k.layers.LSTM(4, return_sequences=True, name="reader")(k.layers.Embedding(11, 3, name="table")(words))
    last = k.layers.GlobalMaxPooling1D(name="peak")(x)
    joined = k.layers.Concatenate(name="joined")([last, features])
    label = k.layers.Dense(3, activation="softmax", name="label")(joined)
    score = k.layers.Dense(1, name="score")(joined)
    outputs = {"tags": x, "chance": label, "points": score} if dict_outputs else [x, label, score]
    return k.Model([words, features], outputs)


case("graph", "several_outputs", "lists of inputs and outputs", [ids(), floats(6, 2)], multiple)
case(
    "graph",
    "dict_inputs",
    "inputs by name",
    {"features": floats(6, 2), "words": ids()},
    multiple,
)
case(
    "graph",
    "dict_outputs",
    "outputs as a dict",
    [ids(), floats(6, 2)],
    lambda k: multiple(k, dict_outputs=True),
    form="keras",
)


def named_inputs(k):
    """A functional model whose inputs are a dict."""
    inputs = {"words": k.Input((6,), dtype="int32", name="words"), "features": k.Input((2,), name="features")}
    x = k.layers.LSTM(4)(k.layers.Embedding(11, 3, mask_zero=True)(inputs["words"]))
    return k.Model(inputs, k.layers.Dense(2)(k.layers.Concatenate()([x, inputs["features"]])))


case(
    "graph",
    "dict_of_inputs",
    "the model was built from a dict of inputs",
    {"features": floats(6, 2), "words": ids()},
    named_inputs,
    form="keras",
)


def passes_input(k):
    """An input is an output, a layer's output is used twice and returned too."""
    x = k.Input((5, 3))
    h = k.layers.LSTM(3, return_sequences=True)(x)
    return k.Model(x, [x, h, k.layers.Add()([h, x])])


case("graph", "input_as_output", "residual sum; the input is an output", floats(2, 5, 3), passes_input)


def without_input_shape(k):
    model = k.Sequential([k.layers.LSTM(4, return_sequences=True), k.layers.Dense(2)])
    model.build((None, 5, 3))
    return model


case(
    "graph",
    "sequential_built",
    "only build_input_shape tells the input shape",
    floats(2, 5, 3),
    without_input_shape,
)


def stray_shapes(k):
    return k.Sequential(
        [
            k.layers.LSTM(4, return_sequences=True, input_shape=(5, 3)),
            k.layers.Dense(3, input_shape=(5, 4)),
            k.layers.LSTM(2, input_shape=(None, 3)),
        ]
    )


case(
    "graph",
    "stray_input_shapes",
    "batch_input_shape on the first and on later layers",
    floats(2, 5, 3),
    stray_shapes,
    on=(TF_KERAS,),
    form="h5",
)


def with_input_layer(k):
    return k.Sequential([k.layers.InputLayer((5, 3), name="front"), k.layers.LSTM(4), k.layers.Dense(2)])


case("graph", "input_layer", "Sequential that starts with an InputLayer", floats(2, 5, 3), with_input_layer)


def one_layer(k):
    return k.Sequential([k.layers.LSTM(3, input_shape=(5, 2))])


case("graph", "one_layer", "a single layer", floats(2, 5, 2), one_layer)


def residual_tagger(k):
    """Stacked BiLSTMs with a residual sum, norm and TimeDistributed head, masks all the way."""
    tokens = k.Input((None,), dtype="int32")
    x = k.layers.Embedding(30, 8, mask_zero=True)(tokens)
    x = k.layers.SpatialDropout1D(0.2)(x)
    for _ in range(2):
        y = k.layers.Bidirectional(k.layers.LSTM(4, return_sequences=True))(x)
        x = k.layers.LayerNormalization()(k.layers.Add()([x, y]))
    return k.Model(tokens, k.layers.TimeDistributed(k.layers.Dense(5, activation="softmax"))(x))


case("graph", "residual_tagger", "a tagger: residual BiLSTMs under masks", ids(30, 8), residual_tagger)


def operators(k):
    """Arithmetic on tensors, which Keras writes as op layers; cut before it for this project."""
    x = k.Input((5, 3))
    h = k.layers.LSTM(3, return_sequences=True, name="kept")(x)
    tail = k.layers.Lambda(lambda t: t * 2.0, name="tail")(k.layers.Dense(2, name="head")(h))
    return k.Model(x, tail)


def cut(k):
    x = k.Input((5, 3))
    h = k.layers.LSTM(3, return_sequences=True, name="kept")(x)
    return k.Model(x, [k.layers.Dense(2, name="head")(h), h])


case(
    "graph",
    "cut_before_lambda",
    "outputs= cuts the graph before a Lambda",
    floats(2, 5, 3),
    operators,
    outputs=("head", "kept"),
    reference=cut,
    form="h5",
)
