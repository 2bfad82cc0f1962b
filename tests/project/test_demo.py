"""tools/demo.py: its table, its exit codes, and that it notices answers that are not Keras'."""

import re
import shutil

import numpy as np
import pytest
from paths import DEMO, TOOLS
from scripts import load_script

from fastbilstm.tolerances import IMDB_PROBABILITY

REVIEWS = DEMO.with_name("reviews.npz")


demo = load_script(TOOLS / "demo.py")


def rewrite(path, **changed):
    """A copy of reviews.npz with some arrays replaced."""
    with np.load(REVIEWS) as npz:
        np.savez(path, **{**npz, **changed})
    return path


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The first six reviews, with what Keras answers for them."""
    with np.load(REVIEWS) as npz:
        offsets = npz["offsets"][:7]
        arrays = {"ids": npz["ids"][: offsets[-1]], "offsets": offsets}
        arrays |= {name: npz[name][:6] for name in ("labels", "keras_prob")}
    return rewrite(tmp_path_factory.mktemp("demo") / "short.npz", **arrays)


def test_prints_keras_answers(capsys):
    assert demo.main([]) == 0
    printed = capsys.readouterr().out
    table = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in printed.split("\n\n")[0].splitlines())
    assert table["model"] == "bilstm64.h5, written by keras 3.15.1: embedding > bidirectional > dense"
    assert re.fullmatch(r"bilstm64\.h5 2,983 kB -> model\.fbl 2,9\d\d kB, in \d+ ms", table["file"])
    assert table["verify"].startswith("ok against ")
    assert re.fullmatch(r"[\d.]+ ms, backend (vector|blas|numpy)", table["load"])
    assert table["reviews"] == "200, padded to 400 tokens"
    assert re.fullmatch(r"\d+ ms, [\d.]+ ms a review \(OMP_NUM_THREADS=\d+\)", table["predict"])
    assert table["labels that differ from keras"] == "0"
    assert float(table["largest difference from keras"].split()[0]) <= IMDB_PROBABILITY

    with np.load(REVIEWS) as npz:
        keras, labels = npz["keras_prob"], npz["labels"]
    percent = f"{np.mean((keras > 0.5) == labels):.1%}"
    assert table["accuracy"] == f"{percent} (keras {percent})"

    samples = re.findall(r"^#(\d+) +(\d+) +([01]) +([\d.]+) +([\d.]+)   1 ", printed, re.MULTILINE)
    assert len(samples) == 3
    for number, _, label, keras_prob, prob in samples:
        assert int(label) == labels[int(number)]
        assert float(keras_prob) == pytest.approx(keras[int(number)], abs=1e-7)
        assert float(prob) == pytest.approx(keras[int(number)], abs=IMDB_PROBABILITY)
    assert printed.endswith("ok: the same answers as Keras\n")


def test_a_label_that_differs_fails(short, tmp_path, capsys):
    with np.load(short) as npz:
        arrays = dict(npz)
    arrays["keras_prob"][0] = 1 - arrays["keras_prob"][0]
    assert demo.main(["--reviews", str(rewrite(tmp_path / "flipped.npz", **arrays))]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"^labels that differ from keras +1$", printed, re.MULTILINE)
    assert printed.endswith("FAILED: not the answers of Keras\n")


@pytest.mark.parametrize("factor, code", [(0.5, 0), (2, 1)])
def test_a_difference_above_the_tolerance_fails(short, tmp_path, factor, code, capsys):
    with np.load(short) as npz:
        arrays = dict(npz)
    shift = np.float32(factor * IMDB_PROBABILITY)
    arrays["keras_prob"] = np.where(
        arrays["keras_prob"] > 0.5, arrays["keras_prob"] - shift, arrays["keras_prob"] + shift
    )
    assert demo.main(["--reviews", str(rewrite(tmp_path / "shifted.npz", **arrays))]) == code
    assert re.search(r"^labels that differ from keras +0$", capsys.readouterr().out, re.MULTILINE)


def test_a_file_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "model.h5").write_bytes(b"no model")
    assert demo.main(["--model", str(tmp_path / "model.h5")]) == 2
    assert "a text file: it holds no model" in capsys.readouterr().err
    assert demo.main(["--reviews", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err


def test_padding_is_that_of_keras():
    """keras.utils.pad_sequences([[1, 2], [3, 4, 5, 6], []], maxlen=3)."""
    padded = demo.pad([np.array([1, 2]), np.array([3, 4, 5, 6]), np.array([], int)], 3)
    assert padded.tolist() == [[0, 1, 2], [4, 5, 6], [0, 0, 0]]


def test_demo_data_is_small_and_made_by_its_script(tmp_path):
    """make_demo_data.py takes the first 200 test reviews; the committed file is below 4 MB."""
    assert DEMO.stat().st_size < 4_000_000
    with np.load(REVIEWS) as npz:
        committed = dict(npz)
    more = {"test_ids": np.append(committed["ids"], [1, 2]), "test_labels": np.append(committed["labels"], 1)}
    np.savez(tmp_path / "all.npz", **more, test_offsets=np.append(committed["offsets"], len(more["test_ids"])))
    np.savez(tmp_path / "prob.npz", prob=np.append(committed["keras_prob"], 0.25)[:, None])
    shutil.copyfile(DEMO, tmp_path / "net.h5")
    script = load_script(TOOLS / "golden" / "make_demo_data.py")
    script.main([str(tmp_path / name) for name in ("net.h5", "prob.npz", "all.npz", "out")])
    with np.load(tmp_path / "out" / "reviews.npz") as npz:
        assert set(npz) == set(committed) == {"ids", "offsets", "labels", "keras_prob"}
        assert all(npz[name].dtype == x.dtype and np.array_equal(npz[name], x) for name, x in committed.items())
    assert (tmp_path / "out" / "net.h5").read_bytes() == DEMO.read_bytes()


def test_demo_data_refuses_an_optimizer_state(tmp_path):
    import h5py

    shutil.copyfile(DEMO, tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        file.create_group("optimizer_weights")
    with pytest.raises(SystemExit, match="optimizer's state"):
        load_script(TOOLS / "golden" / "make_demo_data.py").check_model(tmp_path / "net.h5")
