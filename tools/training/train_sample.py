"""Train the net of `fastbilstm.sample_model()` on pieces of IMDB reviews and convert it (needs TensorFlow).

    python tools/training/train_sample.py --words word_index.json --reviews imdb_5000.npz

Embedding(5000, 16, mask_zero=True), Bidirectional(LSTM(16)), Attention of its sequence with itself, mean, Dense(1,
sigmoid) over any number of token ids. The nets of the guide are trained on whole reviews, padded in front without a
mask: they are wrong on texts of three words. This one is trained on pieces of 1 to 200 words, so that "a boring film"
and a page are read alike. Writes sample.fbl, with word index and labels, and reviews.npz, ten test reviews as token ids
with Keras' own answers, into fastbilstm/sample.
Nothing in the package or its tests imports this file.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from train_imdb import WORDS, load_reviews

ROOT = Path(__file__).resolve().parents[2]
START = 1
# (words of a piece at least, at most, pieces of each review in an epoch, pieces of a batch)
PIECES = ((1, 6, 2, 256), (5, 40, 2, 128), (30, 200, 1, 64))


def batches(ids, labels, rng):
    """Batches of pieces of the reviews, of one size class each, in random order: (rows, timesteps) and labels."""
    found = []
    for least, most, count, size in PIECES:
        order = np.concatenate([rng.permutation(len(ids)) for _ in range(count)])
        for start in range(0, len(order) - size + 1, size):
            found.append((least, most, order[start : start + size]))
    for k in rng.permutation(len(found)):
        least, most, rows = found[k]
        x = np.zeros((len(rows), most + 1), np.int32)
        x[:, 0] = START
        for row, number in zip(x, rows):
            words = ids[number][1:]  # without the start
            length = min(len(words), rng.integers(least, most + 1))
            begin = rng.integers(0, len(words) - length + 1)
            row[1 : 1 + length] = words[begin : begin + length]
        yield x, labels[rows].astype("float32")


def build():
    import keras
    from keras import layers

    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(WORDS, 16, mask_zero=True)(ids)
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    x = layers.GlobalAveragePooling1D()(layers.Attention(use_scale=True)([x, x]))
    x = layers.Dropout(0.3)(x)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x), name="sample")


def train(reviews, epochs, seed):
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build()
    model.compile(keras.optimizers.Adam(), "binary_crossentropy", metrics=["accuracy"])
    ids, labels = reviews["train"]
    for epoch in range(epochs):
        model.optimizer.learning_rate = 4e-3 * 0.5**epoch
        for x, y in batches(ids, np.asarray(labels), rng):
            result = model.train_on_batch(x, y)
        print(epoch, [float(value) for value in result], flush=True)
    return model


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=Path, required=True, help="JSON: word -> rank, the first 5000 ranks")
    parser.add_argument("--reviews", type=Path, help="as for train_imdb.py")
    parser.add_argument("--out", type=Path, default=ROOT / "fastbilstm" / "sample")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    import keras

    import fastbilstm
    from fastbilstm.preprocessing import WordIndex

    reviews = load_reviews(args.reviews)
    model = train(reviews, args.epochs, args.seed)
    ranks = json.loads(args.words.read_text("utf-8"))
    words = WordIndex({word: rank for word, rank in ranks.items() if rank + 3 < WORDS}, num_words=WORDS)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {"tokenizer": words, "labels": ["neg", "pos"], "remove": ["<br />"], "keras": True, "overwrite": True}
    fastbilstm.convert(model, args.out / "sample.fbl", **options)
    ids, labels = reviews["test"]
    x = keras.utils.pad_sequences(ids[:2000], padding="post", maxlen=400)
    prob = model.predict(x, verbose=0)[:, 0]
    print(f"accuracy on 2000 test reviews: {((prob > 0.5) == np.asarray(labels[:2000])).mean():.3f}")
    ten = ids[:10]
    prob = [float(model.predict(row[None].astype(np.int32), verbose=0)[0, 0]) for row in ten]
    offsets = np.cumsum([0, *map(len, ten)])
    held = {
        "ids": np.concatenate(ten).astype(np.uint16),
        "offsets": offsets,
        "labels": np.asarray(labels[:10], np.uint8),
    }
    np.savez_compressed(args.out / "reviews.npz", **held, keras_prob=np.array(prob, np.float32))
    small = fastbilstm.load(args.out / "sample.fbl")
    for text in ("a boring film", "a wonderful film", "bad", "great", "not good", "the worst movie", "I loved it"):
        print(text, small.predict_text([text])[0, 0])


if __name__ == "__main__":
    main()
