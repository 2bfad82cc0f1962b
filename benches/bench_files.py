"""From raw text to a file of labels: rows a second, peak memory, accuracy, agreement with Keras.

    python benches/bench_files.py [--rows 25000] [--times 10] [--threads 2]

Runs `fastbilstm predict` in a process of its own over the IMDB test reviews as .csv, and over a file `--times` as long,
whose peak memory must be the same. The shared folder has the text of the first 1000 reviews; that of the others is made
of their token ids by the word index (one word that is in no vocabulary stands for all that are in none), so reading and
encoding cost what they cost for text, less punctuation. Keras scores the ids, padded by its own pad_sequences. Needs
TensorFlow and the shared folder (FASTBILSTM_SHARED).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "material"))
from shared import SHARED

import fastbilstm

IMDB = SHARED / "imdb"
MAXLEN, WORDS, REAL = 400, 5000, 1000
# What reads the file and what scores it are one process; this one tells its time and its peak.
CHILD = """
import resource, sys, time
from fastbilstm import cli
begun = time.perf_counter()
code = cli.main(sys.argv[1:])
print(code, time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def reviews(rows):
    """(ids of each review, texts, labels)."""
    with np.load(IMDB / "imdb_5000.npz") as npz:
        ids, offsets, labels = npz["test_ids"], npz["test_offsets"], npz["test_labels"]
    sequences = [ids[offsets[k] : offsets[k + 1]] for k in range(rows)]
    index = json.loads((IMDB / "imdb_word_index_5000.json").read_text())
    words = ["", "", "outofvocabulary", *[""] * WORDS]
    for word, rank in index.items():
        if rank + 3 < WORDS:
            words[rank + 3] = word
    with open(IMDB / "imdb_test_reviews_1000.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file][:rows]
    texts += [" ".join(words[i] for i in sequence[1:].tolist()) for sequence in sequences[REAL:]]
    return sequences, texts, labels[:rows]


def keras_answers(sequences):
    """What Keras' predict gives for the padded ids."""
    import keras

    x = keras.utils.pad_sequences(sequences, maxlen=MAXLEN)
    return keras.models.load_model(IMDB / "imdb_bilstm64.h5", compile=False).predict(x, batch_size=256, verbose=0)[:, 0]


def write(path, texts, labels, times):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review", "label"])
        for turn in range(times):
            writer.writerows(
                [turn * len(texts) + k, text, int(label)] for k, (text, label) in enumerate(zip(texts, labels))
            )


def score(folder, source, target, threads):
    """(seconds, peak memory in MB) of the command."""
    line = ["predict", folder / "model.fbl", source, "--text-column", "review", "-o", target, "--threads", threads]
    args = [sys.executable, "-c", CHILD, *line, "--overwrite"]
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True, check=True)
    code, seconds, peak = done.stdout.split()
    if code != "0":
        raise SystemExit(done.stderr)
    return float(seconds), int(peak) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25_000)
    parser.add_argument("--times", type=int, default=10, help="how much longer the second file is")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    sequences, texts, labels = reviews(args.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "labels.txt").write_text("neg\npos\n")
        fastbilstm.convert(
            IMDB / "imdb_bilstm64.h5",
            folder / "model.fbl",
            tokenizer=IMDB / "imdb_word_index_5000.json",
            tokenizer_type="imdb",
            num_words=WORDS,
            labels=folder / "labels.txt",
            maxlen=MAXLEN,
            remove=["<br />"],
        )
        made = max(0, args.rows - REAL)
        print(f"{args.rows} reviews, BiLSTM(64), {args.threads} threads; the text of {made} is made of their token ids")
        for times in (1, args.times):
            write(folder / "in.csv", texts, labels, times)
            size = (folder / "in.csv").stat().st_size / 1e6
            seconds, peak = score(folder, folder / "in.csv", folder / f"out{times}.csv", args.threads)
            rate = times * args.rows / seconds
            print(
                f"{times * args.rows:>8} rows, {size:.0f} MB: {seconds:.2f} s, {rate:,.0f} rows/s, peak {peak:.0f} MB"
            )
        with open(folder / "out1.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with open(folder / f"out{args.times}.csv", newline="", encoding="utf-8") as file:
            last = [
                row["prediction"] for k, row in enumerate(csv.DictReader(file)) if k >= (args.times - 1) * args.rows
            ]
        if [row["prediction"] for row in rows] != last:
            raise SystemExit("the rows of the longer file have other answers")
        begun = time.perf_counter()
        keras = keras_answers(sequences)
        print(f"Keras from the padded ids: {time.perf_counter() - begun:.2f} s, without reading and encoding text")
    ours = np.array([row["prediction_label"] == "pos" for row in rows])
    error = np.abs(np.array([row["prediction"] for row in rows], "f4") - keras).max()
    print(f"accuracy {np.mean(ours == labels):.4f}; Keras {np.mean((keras > 0.5) == labels):.4f}")
    print(f"labels as Keras: {np.sum(ours == (keras > 0.5))} of {args.rows}; largest difference {error:.1e}")


if __name__ == "__main__":
    main()
