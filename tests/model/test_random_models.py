"""Random models against live Keras: the same file, the same inputs, the same numbers (needs TensorFlow).

A fixed sample runs always. `FASTBILSTM_RANDOM=300 pytest tests/model/test_random_models.py` runs 300 further models
with new seeds, one in five with tf_keras; FASTBILSTM_SEED repeats them. A failure prints the program that builds the
model; its seed is in the name of the test.
"""

import collections
import os

import numpy as np
import pytest
import streamed
from random_models import Refused, generate

import fastbilstm
from fastbilstm.tolerances import compare

SAMPLE = {"keras": 100, "tf_keras": 15}
FURTHER = int(os.environ.get("FASTBILSTM_RANDOM", "0"))
SEED = os.environ.get("FASTBILSTM_SEED") or os.urandom(4).hex()
ATTEMPTS = 20
# What happened, for the summary: models, refused (by Keras), lenient (within twice Keras' distance only).
COUNTS = collections.defaultdict(collections.Counter)
REFUSALS, LENIENT = [], []


def seeds(framework):
    further = FURTHER // 5 if framework == "tf_keras" else FURTHER - FURTHER // 5
    return [f"sample-{i}" for i in range(SAMPLE[framework])] + [f"{SEED}-{i}" for i in range(further)]


@pytest.fixture(scope="session")
def frameworks(request):
    """Import a framework on one thread; skip, by name, where it is missing."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    request.config.pluginmanager.register(Summary())

    def get(name):
        pytest.importorskip("tensorflow", reason="random models need TensorFlow")
        k = pytest.importorskip(name, reason=f"random models need {name}")
        if name == "keras" and (not k.__version__.startswith("3.") or k.backend.backend() != "tensorflow"):
            pytest.skip("random models need Keras 3 on TensorFlow")
        return k

    return get


class Summary:
    """Prints what the random models came to at the end of the session."""

    def pytest_terminal_summary(self, terminalreporter):
        if not COUNTS:
            return
        terminalreporter.section("random models against Keras")
        for framework, count in COUNTS.items():
            text = ", ".join(f"{number} {what}" for what, number in count.items())
            terminalreporter.write_line(f"{framework}: {text}")
        for line in LENIENT:
            terminalreporter.write_line(f"within twice Keras' distance only: {line}")
        if FURTHER:
            terminalreporter.write_line(f"repeat the further ones with FASTBILSTM_SEED={SEED}")
            for reason, number in collections.Counter(REFUSALS).most_common():
                terminalreporter.write_line(f"refused by Keras {number} times: {reason}")


def draw(k, seed, folder):
    """The first model of a seed that Keras builds, runs and saves; return it and the arguments that load its file."""
    for attempt in range(ATTEMPTS):
        try:
            case = generate(k, f"{seed}/{attempt}")
            return case, case.save(folder)
        except Refused as error:
            COUNTS[k.__name__]["refused by Keras"] += 1
            REFUSALS.append(str(error).split("\n")[0][:160])
    pytest.fail(f"Keras refused {ATTEMPTS} models in a row; the last reason: {REFUSALS[-1]}")


def listed(y):
    if isinstance(y, dict):
        return sorted(y.items())
    return list(enumerate(y)) if isinstance(y, list | tuple) else [("output", y)]


def answers(model, case, rows=None):
    """What fastbilstm answers to the calls; `rows` at once where the rows do not hang together."""
    together = rows is None or case.stateful or case.whole_batch
    return [model(call) if together else model.predict(call, batch_size=rows) for call in case.calls]


def differences(ours, keras, dtype):
    """A line for each output that is out of tolerance or of another kind, dtype or shape: (call, label, text)."""
    wrong = []
    for call, (y, k) in enumerate(zip(ours, keras, strict=True)):
        if type(y) is not type(k) or [label for label, _ in listed(y)] != [label for label, _ in listed(k)]:
            wrong.append(
                (call, "outputs", f"{type(y).__name__} of {len(y)}, Keras gives {type(k).__name__} of {len(k)}")
            )
            continue
        for (label, a), (_, b) in zip(listed(y), listed(k), strict=True):
            result = compare(a, b, dtype)
            if a.dtype != b.dtype or not result.ok:
                wrong.append((call, label, f"{a.dtype}, Keras {b.dtype}, {result.message}"))
    return wrong


def as_near_as_keras(wrong, ours, case, args):
    """Whether every output named in `wrong` is no further than twice Keras' distance from the float64 specification.

    Or than 2 ulp of the largest number that the call answers: outputs of one model are made of each other. The
    specification counts only where Keras itself, run in float64, confirms it to a thousandth of that distance.
    """
    if case.floatx != "float32" or any(label == "outputs" for _, label, _ in wrong):
        return False
    exact = answers(fastbilstm.load(**args, dtype="float64", backend="numpy"), case)
    wide = case.in_float64()
    for call, label, _ in wrong:
        s, k, y, k64 = (dict(listed(answer[call]))[label] for answer in (exact, case.answers, ours, wide))
        # What float32 cannot hold means nothing; where it became inf or NaN on the way, Keras' answer is the measure.
        lost = np.abs(s) > np.finfo(np.float32).max
        y, far = np.where(lost, k, y), lost | ~np.isfinite(k)
        s, k64 = np.where(far, k, s), np.where(far, k, k64)
        near, keras, meaning = (compare(a, s, "float32").max_abs for a in (y, k, k64))
        sizes = [np.abs(a[np.isfinite(a)]).max(initial=0) for _, a in listed(case.answers[call]) if a.dtype.kind == "f"]
        allowed = max(2 * keras, 2 * np.finfo(np.float32).eps * max(sizes))
        if y.dtype != k.dtype or not (meaning <= keras / 1000 and near <= allowed and keras < float("inf")):
            return False
    return True


def check(ours, case, args, what):
    wrong = differences(ours, case.answers, case.floatx)
    if wrong and as_near_as_keras(wrong, ours, case, args):
        COUNTS[case.k.__name__][f"of them within twice Keras' distance only ({what})"] += 1
        LENIENT.extend(f"{case.seed} ({what}): {text}" for _, _, text in wrong)
    elif wrong:
        text = "\n".join(f"call {call}, {label}: {text}" for call, label, text in wrong)
        pytest.fail(f"{what} differs from {case.k.__name__}:\n{text}\n\n{case}", pytrace=False)


def run(k, seed, folder):
    """Load, compare with both backends and after conversion."""
    case, args = draw(k, seed, folder)
    COUNTS[k.__name__]["models"] += 1
    COUNTS[k.__name__][f"of them as {case.form}"] += 1
    try:
        model = fastbilstm.load(**args)
        exact = fastbilstm.load(**args, backend="numpy")
        ours = answers(model, case)
        check(ours, case, args, "fastbilstm")
        check(answers(exact, case, rows=2), case, args, "the specification, 2 rows at once")
        model.save(folder / "model.fbl")
        converted = answers(fastbilstm.load(folder / "model.fbl"), case)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\n\n{case}") from error
    assert not differences(converted, ours, "float64"), f"the converted model differs\n\n{case}"
    model.reset_states()
    if streamed.check(model, case.calls[0], f"the streamed model differs\n\n{case}") is True:
        COUNTS[k.__name__]["of them streamed"] += 1
    if streamed.check_ragged(model, case.calls[0], f"\n\n{case}"):
        COUNTS[k.__name__]["of them with rows of different lengths"] += 1


@pytest.mark.parametrize("seed", seeds("keras"))
def test_keras3(frameworks, seed, tmp_path):
    run(frameworks("keras"), seed, tmp_path)


@pytest.mark.parametrize("seed", seeds("tf_keras"))
def test_tf_keras(frameworks, seed, tmp_path):
    run(frameworks("tf_keras"), seed, tmp_path)


def test_few_models_are_refused_by_keras_and_few_are_lenient():
    if not COUNTS:
        pytest.skip("no random model was run")
    for framework, count in COUNTS.items():
        assert count["refused by Keras"] <= max(3, count["models"] // 4), (framework, REFUSALS)
    assert len(LENIENT) <= max(3, sum(count["models"] for count in COUNTS.values()) // 20), LENIENT
