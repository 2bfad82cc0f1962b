"""Train the four nets of the guide on the IMDB reviews and save them as Keras .h5 files (needs TensorFlow).

    python tools/training/train_imdb.py --out trained lstm64 bilstm64 stack attention

The reviews come from --reviews (an .npz as described in --help); without it, from ../shared/imdb if that is
there, else from keras.datasets.imdb, which downloads. For every net the script writes <net>.h5 (without the
optimizer's state), <net>_keras_prob.npz (Keras' own probabilities for every test review) and appends one line
to results.jsonl. Nothing in the package or its tests imports this file.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

NETS = ("lstm64", "bilstm64", "stack", "attention")
WORDS = 5000


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=[], metavar="net", help=f"any of {', '.join(NETS)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--reviews",
        type=Path,
        help="npz with {train,test}_{ids,offsets,labels}: review k is ids[offsets[k]:offsets[k+1]], words < 5000",
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--maxlen", type=int, default=400, help="pad_sequences length, in tokens")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--validation-split", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use only the first LIMIT reviews of each set (to try things out)")
    parser.add_argument("--reduce-lr-on-plateau", action="store_true", help="halve the rate when val_loss stalls")
    parser.add_argument("--dropout", type=float, default=0.0, help="Dropout before the last Dense")
    parser.add_argument("--max-norm", type=float, help="max_norm constraint on the kernels of the LSTMs")
    parser.add_argument("--batch-norm", action="store_true", help="BatchNormalization before the last Dense")
    parser.add_argument(
        "--embedding",
        type=Path,
        help=".npy of shape (5000, features): a pretrained embedding, frozen, instead of a trained one of 128",
    )
    args = parser.parse_args(argv)
    unknown = set(args.nets) - set(NETS)
    if unknown:
        parser.error(f"unknown net {', '.join(sorted(unknown))}; choose from {', '.join(NETS)}")
    args.nets = args.nets or list(NETS)
    return args


def load_reviews(path):
    """Return {"train": (list of id arrays, labels), "test": ...}."""
    if path is None:
        shared = Path(os.environ.get("FASTBILSTM_SHARED", "../shared")) / "imdb" / "imdb_5000.npz"
        path = shared if shared.exists() else None
    if path is None:
        import keras

        train, test = keras.datasets.imdb.load_data(num_words=WORDS)
        return {"train": train, "test": test}
    with np.load(path) as npz:
        return {
            part: (np.split(npz[f"{part}_ids"], npz[f"{part}_offsets"][1:-1]), npz[f"{part}_labels"])
            for part in ("train", "test")
        }


def build(name, args):
    import keras
    from keras import layers

    constraint = None if args.max_norm is None else keras.constraints.MaxNorm(args.max_norm)

    def lstm(units, **options):
        return layers.LSTM(units, kernel_constraint=constraint, **options)

    def bilstm(units, **options):
        return layers.Bidirectional(lstm(units, **options))

    if args.embedding is None:
        embedding = layers.Embedding(WORDS, 128)
    else:
        table = np.load(args.embedding)
        if table.ndim != 2 or table.shape[0] != WORDS:
            sys.exit(f"{args.embedding}: shape {table.shape}, expected ({WORDS}, features)")
        embedding = layers.Embedding(
            WORDS, table.shape[1], trainable=False, embeddings_initializer=keras.initializers.Constant(table)
        )
    ids = keras.Input((args.maxlen,), dtype="int32")
    x = embedding(ids)
    if name == "lstm64":
        x = lstm(64)(x)
    elif name == "bilstm64":
        x = bilstm(64)(x)
    elif name == "stack":
        x = bilstm(32)(bilstm(64, return_sequences=True)(x))
    else:
        x = bilstm(64, return_sequences=True)(x)
        x = layers.GlobalAveragePooling1D()(layers.Attention()([x, x]))
    if args.batch_norm:
        x = layers.BatchNormalization()(x)
    if args.dropout:
        x = layers.Dropout(args.dropout)(x)
    return keras.Model(ids, layers.Dense(1, activation="sigmoid")(x), name=name)


def train(name, args, reviews):
    import keras

    keras.utils.set_random_seed(args.seed)
    model = build(name, args)
    model.compile(keras.optimizers.Adam(args.learning_rate), "binary_crossentropy", metrics=["accuracy"])
    arrays = {
        part: (
            keras.utils.pad_sequences(ids[: args.limit], maxlen=args.maxlen),
            np.asarray(labels[: args.limit], "float32"),
        )
        for part, (ids, labels) in reviews.items()
    }
    best = args.out / f"{name}.best.weights.h5"
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            best, monitor="val_accuracy", mode="max", save_best_only=True, save_weights_only=True
        )
    ]
    if args.reduce_lr_on_plateau:
        callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1))
    start = time.perf_counter()
    history = model.fit(
        *arrays["train"],
        batch_size=args.batch_size,
        epochs=args.epochs,
        validation_split=args.validation_split,
        callbacks=callbacks,
        verbose=2,
    ).history
    seconds = time.perf_counter() - start
    model.load_weights(best)
    best.unlink()
    partial = args.out / f".{name}.partial.h5"
    model.save(partial, include_optimizer=False)
    partial.replace(args.out / f"{name}.h5")
    prob = model.predict(arrays["test"][0], batch_size=256, verbose=0)
    np.savez_compressed(args.out / f"{name}_keras_prob.npz", prob=prob)
    result = {
        "net": name,
        "keras": keras.__version__,
        "val_accuracy": max(history["val_accuracy"]),
        "best_epoch": int(np.argmax(history["val_accuracy"])) + 1,
        "test_accuracy": float(np.mean((prob[:, 0] > 0.5) == arrays["test"][1])),
        "seconds": round(seconds),
        "history": history,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("nets", "out")},
    }
    with open(args.out / "results.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(result, default=float) + "\n")
    print(f"{name}: validation {result['val_accuracy']:.4f}, test {result['test_accuracy']:.4f}, {seconds:.0f} s")


def main(argv=None):
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    reviews = load_reviews(args.reviews)
    for name in args.nets:
        train(name, args, reviews)


if __name__ == "__main__":
    main()
