"""The nets of the family "around": layers that people put around recurrent ones, as Keras 3 builds them.

Each function builds the net of its name in `nets.AROUND` on that net's inputs; `keras_nets` saves and converts it.
Imports Keras. Knows nothing of engines and times.
"""

import keras
import numpy as np
from keras import layers
from keras.layers import (
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    LayerNormalization,
    LSTMCell,
    MaxPooling1D,
    MaxPooling2D,
    RepeatVector,
    TimeDistributed,
)
from nets import AROUND, VOCABULARY


def captcha(x):
    for filters in (32, 64):
        x = Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = MaxPooling2D(2)(x)
    x = layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)
    x = Dense(64, activation="relu")(x)
    for units in (128, 64):
        x = Bidirectional(LSTM(units, return_sequences=True))(x)
    return Dense(21, activation="softmax")(x)


def conv_lstm(x):
    x = Embedding(VOCABULARY, 128)(x)
    x = Conv1D(64, 5, activation="relu")(x)
    x = MaxPooling1D(4)(x)
    return Dense(1, activation="sigmoid")(LSTM(70)(x))


def activity(x):
    for _ in range(2):
        x = Conv1D(64, 3, activation="relu")(x)
    x = BatchNormalization()(MaxPooling1D(2)(x))
    x = Dense(100, activation="relu")(LSTM(100)(x))
    return Dense(6, activation="softmax")(x)


def transformer(x):
    x = Embedding(VOCABULARY, 64)(x)
    x = LayerNormalization()(layers.add([x, layers.MultiHeadAttention(4, 16)(x, x)]))
    y = Dense(128, activation="relu")(x)
    x = LayerNormalization()(layers.add([x, Dense(64)(y)]))
    return Dense(1, activation="sigmoid")(Bidirectional(LSTM(64))(x))


def stacked_cells(x):
    return Dense(1)(layers.RNN([LSTMCell(64), LSTMCell(64)])(x))


def lstm_norm(x):
    x = LayerNormalization()(LSTM(64, return_sequences=True)(x))
    x = LayerNormalization()(LSTM(64)(x))
    return Dense(1)(x)


def pictures(x):
    for filters in (32, 64):
        x = MaxPooling2D(2)(Conv2D(filters, 3, activation="relu")(x))
    x = Flatten()(Conv2D(64, 3, activation="relu")(x))
    x = Dense(64, activation="relu")(x)
    return Dense(10, activation="softmax")(x)


def entities(words, characters):
    x = Embedding(VOCABULARY, 100)(words)
    y = TimeDistributed(Embedding(100, 30))(characters)
    y = TimeDistributed(Conv1D(30, 3, padding="same", activation="tanh"))(y)
    y = TimeDistributed(layers.GlobalMaxPooling1D())(y)
    x = Bidirectional(LSTM(100, return_sequences=True))(layers.concatenate([x, y]))
    return TimeDistributed(Dense(9, activation="softmax"))(x)


def autoencoder(x):
    timesteps, features = x.shape[1:]
    x = RepeatVector(timesteps)(LSTM(64)(x))
    return TimeDistributed(Dense(features))(LSTM(64, return_sequences=True)(x))


def translation(source, target):
    _, h, c = LSTM(256, return_state=True)(source)
    y, _, _ = LSTM(256, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    return Dense(93, activation="softmax")(y)


def seeded(model, seed=0):
    """Give the model random weights that keep pre-activations near one; no bias is zero."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape, role = variable.shape, variable.name
        values = rng.standard_normal(shape)
        if role == "moving_variance":
            values = rng.uniform(0.5, 2, shape)
        elif role != "embeddings":
            values /= np.sqrt(max(np.prod(shape[:-1]), 16)) * (2 if role == "recurrent_kernel" else 1)
            values += role == "gamma"
        variable.assign(values.astype(np.float32))


def build(name):
    """The model of that name; the names of its layers do not depend on what was built before."""
    keras.utils.clear_session()
    given = [keras.Input(one.shape, dtype=one.dtype, name=one.name) for one in AROUND[name]]
    model = keras.Model(given if len(given) > 1 else given[0], globals()[name](*given))
    seeded(model)
    return model
