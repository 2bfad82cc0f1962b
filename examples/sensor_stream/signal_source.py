"""The vibration of a machine with a sensor of three axes, 100 samples a second, made up: sound, or with a worn bearing.

Stands in for a serial port or a socket. Imports NumPy.
"""

import numpy as np

RATE = 100  # samples a second


def vibration(samples, seed=0, worn_from=None):
    """(samples, 3) float32, in g.

    The shaft turns five times a second, a little faster and slower; its harmonics have other strengths on each axis.
    From sample `worn_from` on the bearing knocks: a short ringing, three times a second.
    """
    rng = np.random.default_rng(seed)
    speed = 5 * (1 + 0.05 * np.sin(2 * np.pi * np.arange(samples) / (7 * RATE) + rng.uniform(0, 6)))
    turns = np.cumsum(speed) / RATE
    harmonics = np.stack([np.sin(2 * np.pi * k * turns + k) for k in (1, 2, 4)], axis=1)
    mix = np.array([[0.6, 0.2, 0.1], [0.3, 0.4, 0.05], [0.1, 0.1, 0.2]])
    x = harmonics @ mix + rng.normal(0, 0.02, (samples, 3))
    if worn_from is not None:
        since = np.arange(samples - worn_from) % (RATE // 3)
        knock = 0.8 * np.exp(-since / 4) * np.cos(2 * np.pi * 23 * since / RATE)
        x[worn_from:] += knock[:, np.newaxis] * [1.0, 0.7, 0.4]
    return x.astype(np.float32)
