"""Narrow weights in converted files: what is stored, the same numbers after reading, and every malformed case."""

import json

import make_files as mf
import numpy as np
import pytest
from paths import FORMAT_V2

import fastbilstm
from fastbilstm.errors import FileFormatError

FORMS = ("int8", "bfloat16", "float16")
NARROW = ("embedding/embeddings", "lstm/kernel", "lstm/recurrent_kernel", "dense/kernel")
DTYPES = {"int8": "I8", "bfloat16": "U16", "float16": "F16"}
CONTENT = {form: mf.converted(weights=form) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_the_file_holds_codes_and_gives_the_bits_of_load(form):
    header, _ = mf.split_fbl(CONTENT[form])
    assert {name for name in header if header[name].get("dtype") == DTYPES[form]} == set(NARROW)
    assert header["__metadata__"]["fastbilstm_format"] == "2"
    assert header["dense/bias"]["dtype"] == "F32"
    model, direct = fastbilstm.load(CONTENT[form]), fastbilstm.load(mf.h5(), weights=form)
    assert model.weights == direct.weights == form
    assert all(a.tobytes() == b.tobytes() for a, b in zip(model.get_weights(), direct.get_weights(), strict=True))
    np.testing.assert_array_equal(model.predict(mf.IDS), direct.predict(mf.IDS))
    assert model.self_check().ok and fastbilstm.load(CONTENT[form], check=True, dtype="float64").self_check().ok
    assert fastbilstm.load(CONTENT[form], backend="numpy", check=True).weights == form


@pytest.mark.parametrize("form", FORMS)
def test_writing_what_was_read_gives_the_same_file(form, tmp_path):
    fastbilstm.load(CONTENT[form]).save(tmp_path / "again.fbl")
    assert (tmp_path / "again.fbl").read_bytes() == CONTENT[form]


def test_float32_stays_format_version_1():
    assert mf.converted(weights="float32") == mf.converted()
    assert mf.split_fbl(mf.converted())[0]["__metadata__"]["fastbilstm_format"] == "1"


@pytest.mark.parametrize("form", FORMS)
def test_a_float32_file_is_narrowed_when_it_is_loaded(form):
    model = fastbilstm.load(mf.converted(), weights=form)
    np.testing.assert_array_equal(model.predict(mf.IDS), fastbilstm.load(CONTENT[form]).predict(mf.IDS))
    assert model.vector is None, "the recorded answers are those of float32"
    assert model.self_check().ok


@pytest.mark.parametrize(("form", "other"), [("int8", "float32"), ("int8", "bfloat16"), ("float16", "int8")])
def test_a_narrow_file_gives_no_other_form(form, other, tmp_path):
    words = f"holds its weights in {form} alone, and they cannot become {other}: leave weights='{other}'"
    mf.assert_refused(tmp_path, CONTENT[form], words, "model.fbl", weights=other)
    assert fastbilstm.load(CONTENT[form], weights=form).weights == form


# ---- version 2 ------------------------------------------------------------------------------------------------------

V2_INPUTS = [np.array([[1, 2, 4], [3, 0, 0]]), np.array([[0.5, -0.25], [1.0, 2.0]], "f4")]
# Computed by tf_keras 2.21.0 from the .h5 of tools/golden/make_format_fixture.py, whose kernels and embeddings were
# narrowed by ml_dtypes and, for int8, by the formula of docs/fbl-format.md.
V2_OUTPUTS = {
    "int8": [
        [[0.80069673, 0.22307795], [1.44020593, 2.57023931]],
        [[-0.23722392, 0.02846396, 0.12802486, 0.03391909], [-0.13381034, -0.17329451, 0.09246965, 0.05648647]],
    ],
    "bfloat16": [
        [[0.8011601, 0.22353584], [1.44034743, 2.56995654]],
        [[-0.23711012, 0.02784189, 0.12803029, 0.03391119], [-0.13384248, -0.17296331, 0.09258295, 0.05648786]],
    ],
    "float16": [
        [[0.80134338, 0.22356245], [1.4404074, 2.570328]],
        [[-0.2369251, 0.02804486, 0.12804352, 0.03397579], [-0.13389663, -0.17321478, 0.09262387, 0.05646085]],
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_version_2_is_read_for_ever(form):
    """These files must never be written again: later releases have to read these bytes."""
    header, _ = mf.split_fbl(FORMAT_V2[form].read_bytes())
    assert header["__metadata__"]["fastbilstm_format"] == "2"
    assert header["embedding/embeddings"]["dtype"] == DTYPES[form]
    for options in ({"backend": "numpy"}, {"dtype": "float64"}, {}):
        model = fastbilstm.load(FORMAT_V2[form], check=True, **options)
        assert model.weights == form and model.keras == "tf_keras 2.15.0"
        assert [one.rows for one in model.measured] == ["64 made-up rows"]
        for y, k in zip(model.predict(V2_INPUTS), V2_OUTPUTS[form], strict=True):
            # int8 kernels round states, too; without them the answers are those of the narrowed numbers.
            rounds = form == "int8" and model.backend == "vector"
            assert np.abs(y - np.array(k)).max() < (1e-3 if rounds else 1e-6)


# ---- a file that was written by hand --------------------------------------------------------------------------------


def by_hand(form, changes=None, drop=(), entry=None, version="2"):
    """The file of the model of make_files with codes that NumPy's random numbers make, as docs/fbl-format.md says.

    `changes`: arrays to put in place of others; `entry`: changes of the entry `weights`.

    Returns
    -------
    (content, {name: the float that each code stands for})
    """
    rng = np.random.default_rng(5)
    header, data = mf.split_fbl(mf.converted())
    arrays = {}
    for name, place in header.items():
        if name != "__metadata__":
            begin, end = place["data_offsets"]
            dtype = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4"}[place["dtype"]]
            arrays[name] = np.frombuffer(data[begin:end], dtype).reshape(place["shape"])
    meant = {}
    for name in NARROW:
        shape = arrays[name].shape
        if form == "float16":
            arrays[name] = rng.normal(size=shape).astype(np.float16)
            meant[name] = arrays[name].astype(np.float64)
        elif form == "bfloat16":
            arrays[name] = rng.integers(0x3E80, 0x3F80, shape).astype(np.uint16)
            meant[name] = 2.0 ** (arrays[name] // 128 - 127.0) * (1 + arrays[name] % 128 / 128)
        else:
            along = 1 if name.endswith("embeddings") else 0
            codes = rng.integers(-126, 127, shape)
            np.put_along_axis(codes, np.expand_dims(codes.argmax(along), along), 127, along)
            scale = rng.integers(1, 100, tuple(1 if k == along else n for k, n in enumerate(shape))) / 2**14
            arrays[name], arrays[f"weight-scale/{name}"] = codes.astype(np.int8), scale.astype(np.float32)
            meant[name] = codes * scale
    arrays = {name: array for name, array in {**arrays, **(changes or {})}.items() if name not in drop}
    metadata = dict(header["__metadata__"], fastbilstm_format=version)
    del metadata["vector"]
    arrays = {name: array for name, array in arrays.items() if not name.startswith("self-check/")}
    weights = {"form": form, "arrays": list(NARROW), "measured": [], **(entry or {})}
    metadata["weights"] = weights if isinstance(entry, str) else json.dumps(weights)
    codes_of = {"f4": "F32", "f8": "F64", "i8": "I64", "i4": "I32", "i1": "I8", "u2": "U16", "f2": "F16"}
    parts, new, offset = [], {"__metadata__": metadata}, 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        parts.append(array.tobytes())
        dtype, span = codes_of[array.dtype.str[1:]], [offset, offset + len(parts[-1])]
        new[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": span}
        offset += len(parts[-1])
    return mf.join_fbl(new, b"".join(parts)), meant


@pytest.mark.parametrize("form", FORMS)
def test_a_file_written_by_hand_means_these_numbers(form):
    content, meant = by_hand(form)
    model = fastbilstm.load(content)
    for name, numbers in meant.items():
        np.testing.assert_array_equal(model._tensors[name], numbers)
        assert model._tensors[name].dtype == np.float32 and not model._tensors[name].flags.writeable
    assert not any(name.startswith("weight-scale/") for name in model._tensors)
    assert model.predict(mf.IDS).shape == (3, 2)


KERNEL, SCALE = "lstm/kernel", "weight-scale/lstm/kernel"
GOOD = np.full((4, 12), 127, np.int8)
ONES = np.ones((1, 12), np.float32)


def codes(value, scale=1.0):
    """One code, and the scale of its column, changed in arrays that are right."""
    changed, scales = GOOD.copy(), ONES.copy()
    changed[2, 3], scales[0, 3] = value, scale
    return {KERNEL: changed, SCALE: scales}


MALFORMED = {
    "scale of another shape": ("int8", {"changes": {SCALE: np.ones((4, 1), "f4")}}, r"scale of shape \(4, 1\)"),
    "scale of one axis": ("int8", {"changes": {SCALE: np.ones(12, "f4")}}, r"expected \(1, 12\), float32"),
    "scale in float64": ("int8", {"changes": {SCALE: np.ones((1, 12))}}, "dtype float64"),
    "no scale": ("int8", {"drop": (SCALE,)}, "the narrow array 'lstm/kernel' has no scale"),
    "NaN scale": ("int8", {"changes": codes(1, np.nan)}, "a scale that is NaN, negative or too large"),
    "infinite scale": ("int8", {"changes": codes(1, np.inf)}, "a scale that is NaN, negative or too large"),
    "scale too large": ("int8", {"changes": codes(1, 1e37)}, "a scale that is NaN, negative or too large"),
    "negative scale": ("int8", {"changes": codes(1, -1)}, "a scale that is NaN, negative or too large"),
    "scale of many bits": ("int8", {"changes": codes(1, 1 + 2.0**-20)}, "it is not as it was written"),
    "scale too small": ("int8", {"changes": codes(1, 2.0**-110)}, "it is not as it was written"),
    "scale 0 of codes": ("int8", {"changes": codes(1, 0)}, "it is not as it was written"),
    "codes that use half": ("int8", {"changes": {KERNEL: GOOD // 2, SCALE: ONES}}, "largest code to 127"),
    "-128": ("int8", {"changes": codes(-128)}, "the code -128; codes are -127 to 127"),
    "codes in float32": ("int8", {"changes": {KERNEL: GOOD.astype("f4")}}, "dtype float32; int8 is stored as int8"),
    "int8 as bfloat16": ("bfloat16", {"changes": {KERNEL: GOOD}}, "dtype int8; bfloat16 is stored as uint16"),
    "uint16 as float16": ("float16", {"changes": {KERNEL: GOOD.astype("u2")}}, "dtype uint16; float16 is stored as"),
    "array missing": ("int8", {"drop": (KERNEL,)}, "the narrow array 'lstm/kernel' is not in it"),
    "a narrow bias": ("int8", {"entry": {"arrays": ["dense/bias"]}}, "is no kernel and no embedding"),
    "twice": ("float16", {"entry": {"arrays": [KERNEL, KERNEL]}}, "a name stands twice"),
    "unknown form": ("int8", {"entry": {"form": "int4"}}, "form is 'int4'; expected one of bfloat16, float16, int8"),
    "float32 as a form": ("int8", {"entry": {"form": "float32"}}, "form is 'float32'; expected one of"),
    "names no list": ("int8", {"entry": {"arrays": "all"}}, "arrays is no list of names"),
    "nothing measured": ("int8", {"entry": {"measured": None}}, "entry weights is missing or malformed"),
    "measured nonsense": ("int8", {"entry": {"measured": [{"rows": "x"}]}}, "entry weights is missing or malformed"),
    "more flips than labels": (
        "int8",
        {"entry": {"measured": [{"rows": "x", "largest": [0], "relative": [0], "flips": 3, "labels": 2}]}},
        "3 of 2 labels differ",
    ),
    "negative differences": (
        "int8",
        {"entry": {"measured": [{"rows": "x", "largest": [-1], "relative": [0], "flips": 0, "labels": 2}]}},
        "measured differences are",
    ),
    "differences of other outputs": (
        "int8",
        {"entry": {"measured": [{"rows": "x", "largest": [0, 0], "relative": [0, 0], "flips": 0, "labels": 2}]}},
        r"measured differences are .*; expected 1 of each",
    ),
    "in format version 1": ("int8", {"version": "1"}, "has an entry weights, which format version 1 does not"),
    "a newer version": ("int8", {"version": "3"}, "has format version 3; this fastbilstm reads up to 2: upgrade it"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(case, tmp_path):
    form, options, words = MALFORMED[case]
    mf.assert_refused(tmp_path, by_hand(form, **options)[0], words, "model.fbl")


@pytest.mark.parametrize("text", [None, "", "[]", "3", "{", "[" * 100_000])
def test_malformed_entry(text, tmp_path):
    def edit(header):
        header["__metadata__"].pop("weights")
        if text is not None:
            header["__metadata__"]["weights"] = text

    content = mf.edit_fbl(CONTENT["int8"], edit)
    mf.assert_refused(tmp_path, content, "entry weights is missing or malformed", "model.fbl")


def test_the_changed_arrays_of_these_tests_are_good_but_for_one():
    model = fastbilstm.load(by_hand("int8", {KERNEL: GOOD, SCALE: ONES})[0])
    assert (model._tensors[KERNEL] == 127).all()


@pytest.mark.parametrize("form", FORMS)
def test_large_files_are_mapped_and_widened(form, tmp_path, monkeypatch):
    from fastbilstm.converted import mapped_file

    (tmp_path / "m.fbl").write_bytes(CONTENT[form])
    monkeypatch.setattr(mapped_file, "MAPPED_FROM", 0)
    model = fastbilstm.load(tmp_path / "m.fbl")
    assert model._mapped is not None
    np.testing.assert_array_equal(model.predict(mf.IDS), fastbilstm.load(CONTENT[form]).predict(mf.IDS))
    (tmp_path / "m.fbl").write_bytes(CONTENT[form][:-1] + b"x")
    with pytest.raises(FileFormatError, match="was written into after it was loaded"):
        model.predict(mf.IDS)


@pytest.mark.parametrize("seed", range(3))
def test_what_passes_is_narrowed_to_the_same_codes(seed):
    """Bytes of codes and scales changed at random, and signed again: refused, or what `convert` would write."""
    from fastbilstm.engine.narrow_layers import narrow

    rng, outcomes = np.random.default_rng(seed), {"refused": 0, "loaded": 0}
    header, data = mf.split_fbl(CONTENT["int8"])
    spans = [place["data_offsets"] for name, place in header.items() if name in NARROW or "weight-scale/" in name]
    for number in range(60):
        begin, end = spans[number % len(spans)]
        changed = bytearray(data)
        changed[rng.integers(begin, end)] = rng.integers(0, 256)
        try:
            model = fastbilstm.load(mf.join_fbl(header, bytes(changed)))
        except FileFormatError as error:
            assert "the narrow array" in str(error)
            outcomes["refused"] += 1
        else:
            outcomes["loaded"] += 1
            again = narrow(model.graph, model._tensors, "int8")
            assert all(again[name].tobytes() == array.tobytes() for name, array in model._tensors.items())
    assert min(outcomes.values()) > 5, outcomes
