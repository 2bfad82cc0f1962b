"""Names of classes: their files, the labels of answers, and what is refused."""

import numpy as np
import pytest

from fastbilstm import preprocessing as pp
from fastbilstm.errors import FileFormatError, InputError


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("neg\npos\n", ["neg", "pos"]),
        ("neg\r\n größe \r\n\n", ["neg", "größe"]),
        ("\ufeffneg\npos", ["neg", "pos"]),
        ('["neg", "pos", "x"]', ["neg", "pos", "x"]),
        ('{"pos": 1, "neg": 0}', ["neg", "pos"]),
        ('{"1": "pos", "0": "neg"}', ["neg", "pos"]),
        ('{"1": 0, "0": 1}', ["1", "0"]),
    ],
)
def test_label_files(tmp_path, content, labels):
    (tmp_path / "labels").write_text(content, encoding="utf-8", newline="")
    assert pp.read_labels(tmp_path / "labels") == labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 labels"),
        (b"one\n", "1 labels"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "label 'a' stands twice, as numbers 0 and 2"),
        (b"\xff\xfea", "no UTF-8"),
        (b'{"a": 0', "no valid JSON"),
        (b'{"a": 0, "b": 2}', "not 0 to 1"),
        (b'{"a": 0, "b": 0}', "not 0 to 1"),
        (b'{"a": true, "b": 0}', "not 0 to 1"),
        (b'{"0": "a", "0": "b", "2": "c"}', "not 0 to 1"),
        (b'["a", 5]', "label 1 is 5"),
        (b'["a", ""]', "label 1 is ''"),
    ],
)
def test_label_files_refused(tmp_path, content, message):
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        pp.read_labels(tmp_path / "labels")
    assert str(tmp_path / "labels") in str(caught.value)


def test_missing_files_are_named(tmp_path):
    for read in (pp.read_labels, pp.read_vocabulary, pp.read_tokenizer):
        with pytest.raises(FileFormatError, match=r"no_file: cannot be read \(No such file"):
            read(tmp_path / "no_file")


def test_label_answers():
    one = np.array([[0.25], [0.5], [0.75]], np.float32)
    for y in (one, one[:, 0]):
        labels, p = pp.label_answers(y, ["neg", "pos"])
        assert labels == ["neg", "neg", "pos"] and p.tolist() == [0.75, 0.5, 0.75] and p.dtype == np.float32
    assert pp.label_answers(one, ["neg", "pos"], threshold=0.2)[0] == ["pos", "pos", "pos"]
    several = np.array([[0.2, 0.5, 0.3], [0, 0, 1]])
    labels, p = pp.label_answers(several, ["a", "b", "c"])
    assert labels == ["b", "c"] and p.tolist() == [0.5, 1.0]
    assert pp.label_answers(np.array([[0.75, 0.25]]), ["a", "b"])[0] == ["a"]
    assert pp.label_answers(np.zeros((0, 1), "f4"), ["a", "b"])[0] == []


@pytest.mark.parametrize(
    ("y", "labels", "message"),
    [
        ([[0.5]], ["a", "b"], "is a list of several outputs"),
        ({"x": np.ones((1, 1))}, ["a", "b"], "dict of several outputs"),
        (np.ones((1, 1), int), ["a", "b"], "array of probabilities"),
        (np.ones((2, 1)), ["a", "b", "c"], r"shape \(2, 1\); 3 labels need \(rows, 3\)"),
        (np.ones((2, 4, 3)), ["a", "b", "c"], r"shape \(2, 4, 3\)"),
        (np.array([[0.5], [np.nan]]), ["a", "b"], "row 1 of the answer is"),
        (np.array([[1.5]]), ["a", "b"], "row 0 of the answer is"),
        (np.array([[0.9, 0.8]]), ["a", "b"], "end in a sigmoid"),
        (np.array([[0.5]]), ["a", "a"], "stands twice"),
        (np.array([[0.5]]), "ab", "expected a list"),
    ],
)
def test_label_answers_refuse(y, labels, message):
    with pytest.raises(InputError, match=message):
        pp.label_answers(y, labels)
    with pytest.raises(InputError, match="threshold is 2"):
        pp.label_answers(np.array([[0.5]]), ["a", "b"], threshold=2)
