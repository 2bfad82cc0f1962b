"""Trains the net of watch.py with Keras, and converts it: LSTM(24), Dense(3), which foretell the next sample.

    python examples/sensor_stream/train.py          # a minute; writes model.fbl beside this file

Needs TensorFlow and Keras. What is learned are sound machines only; watch.py notices what is not like them.
"""

from pathlib import Path

import keras
import numpy as np
from signal_source import vibration

import fastbilstm

TARGET = Path(__file__).with_name("model.fbl")


def main():
    keras.utils.set_random_seed(0)
    signals = np.stack([vibration(401, seed) for seed in range(200)])
    net = keras.Sequential(
        [
            keras.Input((None, 3), name="acceleration"),
            keras.layers.LSTM(24, return_sequences=True, name="memory"),
            keras.layers.Dense(3, name="next_sample"),
        ],
        name="vibration",
    )
    net.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 40 * 13)), "mse")
    net.fit(signals[:, :-1], signals[:, 1:], batch_size=16, epochs=40, verbose=2)
    fastbilstm.convert(net, TARGET, overwrite=True)


if __name__ == "__main__":
    main()
