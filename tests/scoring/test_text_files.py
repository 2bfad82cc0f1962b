"""Raw text and labels through batches and files: a model with its tokenizer and labels, and a TextVectorization inside.

The encoders themselves are compared with Keras in their own tests; here a file of texts must give what
`Model.predict_text` gives, and real reviews the probabilities that Keras gave.
"""

import csv
import json

import numpy as np
import pytest
from shared import shared_file
from small_files import VOCABULARY, interrupt, run, save_model

import fastbilstm

TEXTS = ["word3 word5 word7", "", "word9, WORD3! ünknown", 'a "quoted"\nline word4', "word1"] * 7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A converted file with a word index and two labels."""
    folder = tmp_path_factory.mktemp("model")
    plain = save_model(folder / "plain.fbl")
    (folder / "index.json").write_text(json.dumps({f"word{k}": k for k in range(1, VOCABULARY)}))
    (folder / "labels.txt").write_text("bad\ngood\n")
    from fastbilstm.cli import commands as cli

    options = ["--tokenizer", folder / "index.json", "--tokenizer-type", "word_index", "--maxlen", 6]
    line = ["convert", plain, folder / "model.fbl", *options, "--labels", folder / "labels.txt"]
    assert cli.main([str(a) for a in line]) == 0
    return folder / "model.fbl"


@pytest.fixture(scope="module")
def expected(model):
    loaded = fastbilstm.load(model)
    y = loaded.predict_text(TEXTS)
    return y[:, 0], ["good" if p > 0.5 else "bad" for p in y[:, 0]], [p if p > 0.5 else 1 - p for p in y[:, 0]]


def test_batches_of_text(model, expected):
    found = fastbilstm.BatchPredictor(model, text="review")({"review": TEXTS, "label": list(range(len(TEXTS)))})
    assert list(found) == ["review", "label", "prediction", "prediction_probability"]
    assert found["prediction"].tolist() == expected[1] and np.array_equal(found["prediction_probability"], expected[2])
    raw = fastbilstm.BatchPredictor(model, text="review", raw=True)({"review": TEXTS})
    assert list(raw) == ["review", "prediction", "prediction_probability", "prediction_raw"]
    assert np.array_equal(raw["prediction_raw"], expected[0]) and raw["prediction"].tolist() == expected[1]
    empty = fastbilstm.BatchPredictor(model, text="review")({"review": []})
    assert empty["prediction"].shape == (0,) and empty["prediction_probability"].shape == (0,)
    predictor = fastbilstm.BatchPredictor(model, text="review", on_error="null")
    with pytest.warns(RuntimeWarning, match="1 of 3 rows.*row 1: column 'review': holds None"):
        found = predictor({"review": [TEXTS[0], None, TEXTS[2]]})
    assert found["prediction"].tolist() == [expected[1][0], None, expected[1][2]]
    assert np.isnan(found["prediction_probability"]).tolist() == [False, True, False]
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    arrow = fastbilstm.BatchPredictor(model, text="review")(pa.RecordBatch.from_pydict({"review": TEXTS}))
    assert arrow.column("prediction").to_pylist() == expected[1]


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet", "txt"])
def test_files_of_text(source, model, expected, tmp_path, capsys):
    path, texts = tmp_path / f"in.{source}", TEXTS
    if source == "csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["label", "review"], *([k, text] for k, text in enumerate(TEXTS))])
    elif source == "jsonl":
        path.write_text("".join(json.dumps({"review": text}) + "\n" for text in TEXTS))
    elif source == "txt":
        texts = [text.replace("\n", " ") for text in TEXTS]
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    else:
        pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"review": TEXTS}), path)
    options = [] if source == "txt" else ["--text-column", "review"]
    told = "fastbilstm: 7 of 35 texts are empty; they were scored as any other (--empty)\n"
    assert run(capsys, "predict", model, path, "-o", tmp_path / "out.csv", "--raw", *options) == (0, told)
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text" if source == "txt" else "review"] for row in rows] == texts
    assert [row["prediction"] for row in rows] == expected[1]
    for name, values in (("prediction_raw", expected[0]), ("prediction_probability", expected[2])):
        assert np.array_equal(np.array([row[name] for row in rows], "f4"), values)
    assert run(capsys, "predict", model, path, "-o", tmp_path / "out.npy", "--quiet", *options) == (0, "")
    assert np.array_equal(np.load(tmp_path / "out.npy")[:, 0], expected[0])


def test_texts_on_the_command_line(model, expected, capsys):
    from fastbilstm.cli import commands as cli

    assert cli.main(["predict", str(model), "--text", TEXTS[0], "--text", TEXTS[1]]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [label for label, _ in lines] == expected[1][:2]
    assert [np.float32(probability) for _, probability in lines] == expected[2][:2]
    assert cli.main(["predict", str(model), "--text", TEXTS[0], "--raw"]) == 0
    label, probability, raw = capsys.readouterr().out.rstrip("\n").split("\t")
    assert (label, np.float32(probability), np.float32(raw)) == (expected[1][0], expected[2][0], expected[0][0])


def test_a_file_may_hold_text_or_ids_and_is_not_guessed_at(model, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("a\n1 2 3 4 5 6\n")
    code, err = run(capsys, "predict", model, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert code == 2 and "--text-column" in err and "--columns" in err
    assert run(capsys, "predict", model, tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--columns", "a") == (0, "")
    with open(tmp_path / "out.csv") as file:
        (row,) = csv.DictReader(file)
    y = fastbilstm.load(model).predict([[1, 2, 3, 4, 5, 6]])[0, 0]
    assert row["prediction"] == ("good" if y > 0.5 else "bad")
    assert np.float32(row["prediction_probability"]) == (y if y > 0.5 else 1 - y)


def test_answers_that_are_no_probabilities_have_no_label(model):
    loaded = fastbilstm.load(model)
    predict = loaded.predict_text

    def spoiled(texts, **options):
        y = predict(texts, **options)
        y[[text == "nan" for text in texts]] = np.nan
        return y

    loaded.predict_text = spoiled
    given = {"review": ["word1", "nan", "word2"]}
    with pytest.raises(fastbilstm.FastBiLSTMError, match="row 1: row 1 of the answer is .*nan"):
        fastbilstm.BatchPredictor(loaded, text="review")(given)
    with pytest.warns(RuntimeWarning, match="1 of 3 rows"):
        found = fastbilstm.BatchPredictor(loaded, text="review", on_error="skip")(given)
    assert len(found["prediction"]) == len(found["prediction_probability"]) == 2 and found["review"] == [
        "word1",
        "word2",
    ]


@pytest.mark.parametrize("on_error", ["stop", "skip", "null"])
@pytest.mark.parametrize("target", ["csv", "jsonl", "npy", "parquet"])
def test_empty_texts(target, on_error, model, expected, tmp_path, capsys, small_chunks):
    """score: as any other text; null: no answer; error: a row that cannot be scored."""
    if target == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    texts = [" \t" if k == 6 else text for k, text in enumerate(TEXTS)]  # blanks are empty, too
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts))
    empty = {k for k, text in enumerate(texts) if not text.strip()}
    line = ["predict", model, source, "--text-column", "review", "--on-error", on_error, *small_chunks, "-o"]
    code, err = run(capsys, *line, tmp_path / f"null.{target}", "--empty", "null")
    assert code == 0 and err == "fastbilstm: 7 of 35 texts are empty; they have no answer\n"
    raw, labels, _ = expected
    wanted = [None if k in empty else label for k, label in enumerate(labels)]
    assert answers_of(tmp_path / f"null.{target}", raw, empty) == (len(texts) if target == "npy" else wanted)
    code, err = run(capsys, *line, tmp_path / f"error.{target}", "--empty", "error")
    if on_error == "stop":
        assert code == 2 and "row 1 (line 2): column 'review': holds an empty text" in err
        return
    assert code == 0 and f"7 of 35 rows {'were left out' if on_error == 'skip' else 'have no answer'}" in err
    if on_error == "skip":
        wanted = [label for label in wanted if label is not None]
        raw, empty, texts = np.delete(raw, sorted(empty)), set(), wanted
    assert answers_of(tmp_path / f"error.{target}", raw, empty) == (len(texts) if target == "npy" else wanted)


def answers_of(path, raw, empty):
    """The labels in a file; of .npy, which holds numbers, their count after a comparison."""
    if path.suffix == ".npy":
        found = np.load(path)[:, 0]
        assert set(np.flatnonzero(np.isnan(found))) == empty
        assert np.array_equal(found[~np.isnan(found)], np.delete(raw, sorted(empty)))
        return len(found)
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [row["prediction"] or None for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line)["prediction"] for line in path.read_text().splitlines()]
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)["prediction"].to_pylist()


def test_empty_texts_of_batches(model, expected, tmp_path, capsys):
    predictor = fastbilstm.BatchPredictor(model, text="review")
    assert predictor({"review": TEXTS})["prediction"].tolist() == expected[1]
    assert predictor.empty_rows == list(range(1, len(TEXTS), 5)) and predictor.bad_rows == []
    predictor = fastbilstm.BatchPredictor(model, text="review", empty="null")
    found = predictor({"review": [TEXTS[0], "", " \n", "word1"]})
    assert found["prediction"][[1, 2]].tolist() == [None, None] and predictor.empty_rows == [1, 2]
    assert found["prediction"][0] == expected[1][0] and found["prediction"][3] in ("good", "bad")
    assert np.isnan(found["prediction_probability"]).tolist() == [False, True, True, False]
    (batch,) = fastbilstm.load(model).predict_iter([write(tmp_path / "in.txt", "word1\n\n")], text="text", empty="null")
    assert [label is None for label in batch["prediction"]] == [False, True]
    with pytest.raises(fastbilstm.InputError, match="empty is 'skip'; expected one of 'score', 'null', 'error'"):
        fastbilstm.BatchPredictor(model, text="review", empty="skip")
    write(tmp_path / "in.csv", "a\n1 2\n")
    line = ["predict", model, tmp_path / "in.csv", "-o", tmp_path / "out.csv", "--columns", "a", "--empty", "null"]
    code, err = run(capsys, *line)
    assert code == 2 and "(--empty) is for texts" in err


def write(path, text):
    path.write_text(text)
    return path


def test_empty_texts_are_counted_over_an_interruption(model, tmp_path, capsys, monkeypatch, small_chunks):
    write(tmp_path / "in.txt", "word1\n\n" * 20)
    line = ["predict", model, tmp_path / "in.txt", "-o", tmp_path / "out.csv", *small_chunks]
    interrupt(monkeypatch, capsys, line)
    code, err = run(capsys, *line, "--resume")
    assert code == 0 and "going on after 16 rows" in err and "20 of 40 texts are empty" in err


def test_a_vocabulary_inside_the_model(tmp_path, capsys):
    k = pytest.importorskip("keras", reason="needs Keras")
    words = k.layers.TextVectorization(output_sequence_length=6)
    words.adapt(TEXTS)
    x = i = k.Input((1,), dtype="string", name="review")
    x = k.layers.LSTM(3)(k.layers.Embedding(40, 3)(words(x)))
    net = k.Model(i, k.layers.Dense(1, activation="sigmoid")(x))
    net.save(tmp_path / "model.keras")
    texts = [text.replace("\n", " ") for text in TEXTS]
    answers = np.asarray(net(np.array(texts)[:, None]))[:, 0]
    (tmp_path / "in.txt").write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    lines = [{"review": text, "other": 1} for text in texts]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for source, options in (("in.txt", []), ("in.jsonl", []), ("in.jsonl", ["--text-column", "review"])):
        line = ["predict", tmp_path / "model.keras", tmp_path / source, "-o", tmp_path / "out.npy", "--overwrite"]
        code, err = run(capsys, *line, *options)
        assert code == 0 and ("7 of 35 texts are empty" in err or (source == "in.jsonl" and not options and not err))
        np.testing.assert_allclose(np.load(tmp_path / "out.npy")[:, 0], answers, rtol=1e-5, atol=1e-6)


def test_real_reviews_from_text(tmp_path, capsys):
    from fastbilstm.tolerances import IMDB_PROBABILITY

    (tmp_path / "labels.txt").write_text("neg\npos\n")
    options = {"tokenizer": shared_file("imdb/imdb_word_index_5000.json"), "tokenizer_type": "imdb", "num_words": 5000}
    options |= {"labels": tmp_path / "labels.txt", "maxlen": 400, "remove": ["<br />"]}
    fastbilstm.convert(shared_file("imdb/imdb_bilstm64.h5"), tmp_path / "model.fbl", **options)
    source = shared_file("imdb/imdb_test_reviews_1000.jsonl")
    line = ["predict", tmp_path / "model.fbl", source, "--text-column", "text", "-o", tmp_path / "out.csv", "--raw"]
    assert run(capsys, *line) == (0, "")
    with np.load(shared_file("imdb/imdb_bilstm64_expected.npz")) as npz:
        keras = npz["prob"][:1000, 0]
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ["text", "label", "prediction", "prediction_probability", "prediction_raw"]
    assert len(rows) == 1000 and list(rows[0]) == columns
    prob = np.array([row["prediction_raw"] for row in rows], "f4")
    assert np.abs(prob - keras).max() <= IMDB_PROBABILITY
    assert [row["prediction"] for row in rows] == ["pos" if p > 0.5 else "neg" for p in keras]
