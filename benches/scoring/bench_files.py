"""From raw text to a file of labels: rows a second, peak memory, accuracy, agreement with Keras.

    python benches/scoring/bench_files.py [--rows 25000] [--times 10] [--threads 2]

Runs `fastbilstm predict` in a process of its own over reviews as .csv, and over a file `--times` as long, whose peak
memory must be the same. The ids are those of `cells.reviews`; the text is made of them by a vocabulary of made words,
as long as English ones of that rank, in sentences, so reading and encoding cost what they cost for text. Keras scores
the ids, padded by its own pad_sequences. Labels are known of the 200 committed reviews alone. Needs TensorFlow.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what the benches share
from cells import DEMO, PADDED, reviews
from nets import VOCABULARY

import fastbilstm

MODEL = DEMO / "bilstm64.h5"
INDEX_FROM = 3  # the word of rank r has the id r + INDEX_FROM
# What reads the file and what scores it are one process; this one tells its time and its peak.
CHILD = """
import resource, sys, time
from fastbilstm import cli  # noqa: E402
begun = time.perf_counter()
code = cli.main(sys.argv[1:])
print(code, time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def word_of(rank):
    """A word that no other rank has."""
    letters, number = round(1.2 + 1.55 * math.log10(rank)), rank * 7919
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(max(letters, 2)))


def text_of(ids, words):
    """Sentences of 15 words, six in a paragraph."""
    known = [words.get(i, "notaword") for i in ids[1:].tolist()]
    sentences = [" ".join(known[at : at + 15]).capitalize() + "." for at in range(0, len(known), 15)]
    return "<br /><br />".join(" ".join(sentences[at : at + 6]) for at in range(0, len(sentences), 6))


def keras_answers(sequences):
    """What Keras' predict gives for the padded ids."""
    import keras

    x = keras.utils.pad_sequences(sequences, maxlen=PADDED)
    return keras.models.load_model(MODEL, compile=False).predict(x, batch_size=256, verbose=0)[:, 0]


def write(path, texts, times):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        for turn in range(times):
            writer.writerows([turn * len(texts) + k, text] for k, text in enumerate(texts))


def score(folder, source, target, threads):
    """(seconds, peak memory in MB) of the command."""
    line = [
        "predict",
        folder / "model.fbl",
        source,
        "--text-column",
        "review",
        "--raw",
        "-o",
        target,
        "--threads",
        threads,
    ]
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
    ranks = {word_of(rank): rank for rank in range(1, VOCABULARY)}
    words = {rank + INDEX_FROM: word for word, rank in ranks.items()}
    sequences = reviews(args.rows)
    texts = [text_of(ids, words) for ids in sequences]
    with np.load(DEMO / "reviews.npz") as file:
        labels = file["labels"][: args.rows]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "labels.txt").write_text("neg\npos\n")
        (folder / "word_index.json").write_text(json.dumps(ranks))
        fastbilstm.convert(
            MODEL,
            folder / "model.fbl",
            tokenizer=folder / "word_index.json",
            tokenizer_type="imdb",
            num_words=VOCABULARY,
            labels=folder / "labels.txt",
            maxlen=PADDED,
            remove=["<br />"],
        )
        print(f"{args.rows} reviews of made words, BiLSTM(64), {args.threads} threads")
        for times in (1, args.times):
            write(folder / "in.csv", texts, times)
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
                row["prediction_raw"] for k, row in enumerate(csv.DictReader(file)) if k >= (args.times - 1) * args.rows
            ]
        if [row["prediction_raw"] for row in rows] != last:
            raise SystemExit("the rows of the longer file have other answers")
        begun = time.perf_counter()
        keras = keras_answers(sequences)
        print(f"Keras from the padded ids: {time.perf_counter() - begun:.2f} s, without reading and encoding text")
    ours = np.array([row["prediction"] == "pos" for row in rows])
    error = np.abs(np.array([row["prediction_raw"] for row in rows], "f4") - keras).max()
    right, theirs = (np.mean(answer[: len(labels)] == labels) for answer in (ours, keras > 0.5))
    print(f"accuracy on the first {len(labels)} reviews {right:.4f}; Keras {theirs:.4f}")
    print(f"labels as Keras: {np.sum(ours == (keras > 0.5))} of {args.rows}; largest difference {error:.1e}")


if __name__ == "__main__":
    main()
