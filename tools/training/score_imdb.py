"""Score the nets that train_imdb.py trained, through fastbilstm, and print the table of docs/imdb.md.

    python tools/training/score_imdb.py trained --reviews imdb_5000.npz

Reads <net>.h5, <net>_keras_prob.npz and results.jsonl of the folder; needs h5py and no TensorFlow.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

try:
    import fastbilstm
except ModuleNotFoundError:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import fastbilstm
from train_imdb import NETS, load_reviews

# Validation accuracy that the guide gives for its nets, in percent.
GUIDE = {"lstm64": 86.2, "bilstm64": 88.7, "stack": 89.3, "attention": 89.8}


def pad(sequences, maxlen):
    """Keras' pad_sequences with its defaults: zeros and cuts in front."""
    rows = np.zeros((len(sequences), maxlen), np.int32)
    for row, sequence in zip(rows, sequences):
        tail = sequence[-maxlen:]
        row[maxlen - len(tail) :] = tail
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what train_imdb.py --out named")
    parser.add_argument("--reviews", type=Path, help="see train_imdb.py")
    args = parser.parse_args(argv)
    results = {}
    for line in (args.folder / "results.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        results[entry["net"]] = entry
    sequences, labels = load_reviews(args.reviews)["test"]
    columns = "net", "guide, validation", "validation (epoch)", "test, Keras", "test, fastbilstm", "labels that differ"
    print(f"| {' | '.join(columns)} | largest difference | predict, s |\n|{'---|' * 8}")
    for net in NETS:
        if net not in results:
            continue
        entry = results[net]
        ids = pad(sequences, entry["options"]["maxlen"])
        keras = np.load(args.folder / f"{net}_keras_prob.npz")["prob"]
        model = fastbilstm.load(args.folder / f"{net}.h5")
        start = time.perf_counter()
        prob = model.predict(ids, batch_size=256, verbose=1)
        seconds = time.perf_counter() - start
        accuracy = [f"{100 * np.mean((p[:, 0] > 0.5) == labels):.2f} %" for p in (keras, prob)]
        differ = int(np.sum((prob > 0.5) != (keras > 0.5)))
        cells = [
            *(net, f"{GUIDE[net]} %", f"{100 * entry['val_accuracy']:.1f} % ({entry['best_epoch']})", *accuracy),
            *(f"{differ} of {len(labels)}", f"{np.abs(prob - keras).max():.1e}", f"{seconds:.0f}"),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
