"""Train a small seq2seq model in Keras, which reverses strings of digits, and record how Keras decodes with it.

    python tools/training/train_seq2seq.py [folder]    (a minute or two; needs TensorFlow; default tests/golden/seq2seq)

Writes model.keras, the training model: its encoder and decoder are models inside it. Writes decoded.npz: strings, the
greedy and the beam decodings that Keras gives (with the loops of tools/seq2seq.py) and their log-probabilities.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from seq2seq import BEAM, LONGEST, START, STOP, VOCABULARY, Decoder, beam, greedy  # noqa: E402

FOLDER = ROOT / "tests" / "golden" / "seq2seq"
UNITS = 40


def strings(rng, rows):
    """Digits 1..9 and 0 as tokens 1 to 10, padded with 0 (masked): (rows, LONGEST)."""
    lengths = rng.integers(1, LONGEST + 1, rows)
    digits = rng.integers(1, 11, (rows, LONGEST))
    return np.where(np.arange(LONGEST) < lengths[:, np.newaxis], digits, 0).astype(np.int32)


def targets(rows):
    """What the decoder reads (START and the answer) and what it should say (the answer and STOP)."""
    answer = np.zeros((len(rows), LONGEST + 1), np.int32)
    said = np.zeros_like(answer)
    for read, say, row in zip(answer, said, rows):
        backwards = row[row > 0][::-1]
        read[: len(backwards) + 1] = [START, *backwards]
        say[: len(backwards) + 1] = [*backwards, STOP]
    return answer, said


def build(keras):
    layers = keras.layers
    source = keras.Input((None,), dtype="int32", name="source")
    h = layers.Embedding(VOCABULARY, 12, mask_zero=True)(source)
    _, h, c = layers.LSTM(UNITS, return_state=True, name="encoder_lstm")(h)
    encoder = keras.Model(source, [h, c], name="encoder")

    said = keras.Input((None,), dtype="int32", name="said")
    states = [keras.Input((UNITS,), name=name) for name in ("h", "c")]
    x = layers.Embedding(VOCABULARY, 12)(said)
    x, *after = layers.LSTM(UNITS, return_sequences=True, return_state=True, name="decoder_lstm")(
        x, initial_state=states
    )
    x = layers.Dense(VOCABULARY, activation="softmax", name="token")(x)
    decoder = keras.Model([said, *states], [x, *after], name="decoder")

    source, said = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    answer, _, _ = decoder([said, *encoder(source)])
    return keras.Model([source, said], answer, name="seq2seq")


class KerasDecoder(Decoder):
    """The same loops over a model that Keras loaded."""

    def __init__(self, model):
        self.encoder, self.decoder = model.get_layer("encoder"), model.get_layer("decoder")

    def begin(self, source):
        return [np.asarray(state) for state in self.encoder(source)]

    def step(self, tokens, states):
        answer, *states = self.decoder([tokens[:, np.newaxis], *states])
        return np.asarray(answer)[:, 0], [np.asarray(state) for state in states]


def main():
    import keras

    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    keras.utils.set_random_seed(1)
    rng, model = np.random.default_rng(1), build(keras)
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    source = strings(rng, 24000)
    read, say = targets(source)
    weights = (say > 0).astype("float32")
    for rate in (5e-3, 1e-3):
        model.optimizer.learning_rate = rate
        model.fit([source, read], say, sample_weight=weights, batch_size=128, epochs=6, verbose=2)
    model.compile()  # the optimizer's state is not needed
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras", include_optimizer=False)
    decoder, source = KerasDecoder(model), strings(np.random.default_rng(2), 24)
    said = greedy(decoder, source)
    right = [list(s) == list(row[row > 0][::-1]) for s, row in zip(said, source)]
    print(f"{sum(right)} of {len(right)} strings reversed")
    found = [beam(decoder, row, BEAM) for row in source]
    width = LONGEST + 2
    padded = lambda tokens: np.pad(tokens, (0, width - len(tokens)))  # noqa: E731
    np.savez_compressed(
        folder / "decoded.npz",
        source=source,
        greedy=np.array([padded(s) for s in said], np.int32),
        beam=np.array([[padded(tokens) for tokens, _ in row] for row in found], np.int32),
        log_probability=np.array([[p for _, p in row] for row in found], np.float64),
    )
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
