"""The recipes of examples/ run: each is started as its first lines say, and its answers are those of the package.

The service needs FastAPI and uvicorn: `make examples` installs them. Archives are compressed there alone. No container
is built here: what the files of containers/ copy and start is looked for, and `make examples` runs their steps, but
those that install programs of the system, in an empty folder and fresh environments.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from scripts import load_script

import fastbilstm

EXAMPLES = ROOT / "examples"
TEXTS = ["a wonderful film", "a boring film"]


def example(name, monkeypatch):
    """A script of examples/ as a module; it finds its neighbours for the rest of the test."""
    path = EXAMPLES / name
    monkeypatch.syspath_prepend(str(path.parent))
    return load_script(path)


def run(*command, stdin="", code=0, **environment):
    """What a program prints; it sees no package of this environment but those it is given."""
    known = {**os.environ, **environment}
    done = subprocess.run([*map(str, command)], input=stdin, capture_output=True, text=True, env=known)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_every_folder_stands_in_the_list():
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"^\| \[(\w+)\]", page, re.MULTILINE)) == folders


# ---- sensor_stream --------------------------------------------------------------------------------------------------


def test_a_worn_bearing_is_noticed():
    out = run(sys.executable, EXAMPLES / "sensor_stream" / "watch.py", "--demo", code=1)
    begins = float(re.match(r" *([\d.]+) s: unusual", out)[1])
    assert 10 <= begins < 10.5 and out.rstrip().endswith("alarms: 1")


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_machine_raises_no_alarm(seed, monkeypatch):
    watch = example("sensor_stream/watch.py", monkeypatch)
    found = watch.Watch(fastbilstm.load(watch.MODEL))
    changes, ratios = [], []
    for sample in watch.vibration(20 * watch.RATE, seed=2000 + seed):
        changes.append(found.take(sample))
        ratios.append(found.ratio)
    assert set(changes) == {None} and max(ratios) < 2.5


def test_it_foretells_what_the_whole_sequence_gives(monkeypatch):
    watch = example("sensor_stream/watch.py", monkeypatch)
    model = fastbilstm.load(watch.MODEL)
    signal = watch.vibration(300, seed=3)
    found, foretold = watch.Watch(model), []
    for sample in signal:
        found.take(sample)
        foretold.append(found.foretold)
    np.testing.assert_allclose(foretold, model.predict(signal[np.newaxis])[0], atol=1e-5)
    assert np.square(foretold[100:-1] - signal[101:]).mean() < 0.1 * signal.var()  # the net has learned something


def test_lines_that_are_no_samples_are_left_out():
    lines = "0.1,0.2,0.3\nx,y,z\n\n1,2\nnan,0,0\n0.4,0.5,0.6\n"
    script = EXAMPLES / "sensor_stream" / "watch.py"
    done = subprocess.run([sys.executable, script], input=lines, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("2 samples")
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["line 2", "line 3", "line 4", "line 5"]


# ---- archives -------------------------------------------------------------------------------------------------------


WHOLE = os.environ.get("FASTBILSTM_EXAMPLES") == "all"


@pytest.fixture(autouse=True)
def level(monkeypatch):
    bundle = example("bundle.py", monkeypatch)
    monkeypatch.setattr(bundle, "LEVEL", bundle.LEVEL if WHOLE else 0)
    monkeypatch.setitem(sys.modules, "bundle", bundle)


def test_the_function_answers_from_its_archive_alone(tmp_path, monkeypatch):
    build = example("lambda_zip/build_zip.py", monkeypatch).build
    target = tmp_path / "function.zip"
    body, seconds = build(target, starts=1)
    (answer,) = json.loads(body)["answers"]
    (wanted,) = fastbilstm.sample_model().classify(TEXTS[:1])
    assert answer["label"] == "pos" and abs(answer["score"] - wanted["score"]) < 1e-6
    assert len(seconds) == 1 and target.stat().st_size < (25e6 if WHOLE else 80e6)
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
    assert {"handler.py", "model.fbl", "fastbilstm/model.py"} <= set(names)
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyc", ".pyi"))]


@pytest.fixture
def handle(tmp_path, monkeypatch):
    fastbilstm.sample_model().save(tmp_path / "model.fbl")
    (tmp_path / "handler.py").write_bytes((EXAMPLES / "lambda_zip" / "handler.py").read_bytes())
    return example(tmp_path / "handler.py", monkeypatch).handle


def test_the_function_says_what_is_wrong_with_a_request(handle):
    for body in (None, "", "{", "[]", '{"texts": "a"}', '{"texts": []}', '{"texts": [1]}', '{"texts": ["a", null]}'):
        found = handle({"body": body}, None)
        assert found["statusCode"] == 400 and json.loads(found["body"])["error"]
    found = handle({"body": "eyJ0ZXh0cyI6IFsiYSBib3JpbmcgZmlsbSJdfQ==", "isBase64Encoded": True}, None)
    assert found["statusCode"] == 200 and json.loads(found["body"])["answers"][0]["label"] == "neg"


def test_one_file_predicts(tmp_path, monkeypatch):
    """Twice: unpacked the first time, found the second; by a Python that sees no packages (-S)."""
    example("zipapp/build_zipapp.py", monkeypatch).build(tmp_path / "predict.pyz")
    command = (sys.executable, "-I", "-S", tmp_path / "predict.pyz")
    assert run(*command, "--help").split()[:3] == ["python", "predict.pyz", '"a']
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = run(*command, *TEXTS, **cache)
    assert [line.split("\t")[::2] for line in first.splitlines()] == [["pos", TEXTS[0]], ["neg", TEXTS[1]]]
    (unpacked,) = (tmp_path / "cache" / "fastbilstm-zipapp").iterdir()
    before = unpacked.stat().st_mtime_ns
    assert run(*command, stdin="\n".join(TEXTS), **cache) == first and unpacked.stat().st_mtime_ns == before


# ---- the service ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service():
    """(a function that asks the service, of two worker processes; the module of the load test)."""
    for name in ("fastapi", "uvicorn"):
        pytest.importorskip(name, reason=f"needs {name}: make examples")
    with pytest.MonkeyPatch.context() as patch:
        bench = example("fastapi_service/bench_service.py", patch)
        with bench.served("service", 2) as port:

            def ask(path, body=None):
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/{path}", data, {"Content-Type": "application/json"}
                )
                try:
                    with urllib.request.urlopen(request, timeout=30) as response:
                        return response.status, json.load(response)
                except urllib.error.HTTPError as error:
                    return error.code, json.load(error)

            yield ask, bench, port


def test_the_service_answers_and_is_healthy(service):
    ask = service[0]
    assert ask("health") == (200, {"status": "ok", "model": "sample", "fastbilstm": fastbilstm.__version__})
    texts = [*TEXTS, "", "film " * 1000]
    for text, wanted in zip(texts, fastbilstm.sample_model().classify([*texts[:3], "film " * 400])):
        status, found = ask("classify", {"text": text})
        if len(text) < 1000:  # of a longer text the last tokens are read, without the token that begins it
            assert status == 200 and found["label"] == wanted["label"]
            assert abs(found["score"] - wanted["score"]) < 1e-6
        assert status == 200
    for wrong in ({}, {"text": 3}, {"text": "x" * 20_001}):
        assert ask("classify", wrong)[0] == 422


def test_the_load_test_compares_every_answer(service):
    import asyncio

    _, bench, port = service
    texts = bench.made_texts(20)
    wanted = fastbilstm.sample_model().classify(texts)
    assert len(asyncio.run(bench.load(port, 4, 0.5, texts, wanted))) > 10
    with pytest.raises(RuntimeError, match="another answer"):
        asyncio.run(bench.load(port, 1, 0.5, texts, wanted[1:] + wanted[:1]))


def test_answers_are_not_held_back(service):
    """40 ms, where the system waits for an acknowledgement: see serve.py."""
    import asyncio

    _, bench, port = service
    texts = bench.made_texts(20)
    assert min(asyncio.run(bench.load(port, 1, 1, texts, fastbilstm.sample_model().classify(texts)))) < 0.03


def test_the_net_that_is_compared_is_the_sample(monkeypatch):
    """Of the same layers; ONNX Runtime itself runs in `make examples` alone."""
    bench = example("fastapi_service/bench_service.py", monkeypatch)
    monkeypatch.syspath_prepend(str(bench.BENCHES))
    model = fastbilstm.sample_model()
    _, weights = bench.weights_of(model, bench.SAMPLE)
    assert sum(array.size for arrays in weights.values() for array in arrays) == model.count_params()
    with pytest.raises(RuntimeError, match="'sample' has more layers than"):
        bench.weights_of(model, bench.SAMPLE[:3])
    with pytest.raises(RuntimeError, match="'sample' has another bilstm_1 than the layers"):
        bench.weights_of(model, (bench.SAMPLE[0], ("bilstm", 17, True, "concat")))


def test_the_service_on_onnx_runtime_gives_the_same(service, tmp_path):
    import asyncio

    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: make examples")
    bench = service[1]
    fbl, onnx, model = bench.write_models("sample", tmp_path)
    texts = bench.made_texts(20)
    with bench.served("onnx_service", 1, MODEL=fbl, ONNX=onnx) as port:
        assert asyncio.run(bench.load(port, 2, 0.5, texts, model.classify(texts)))


# ---- containers -----------------------------------------------------------------------------------------------------

# What pip is told by its environment: where the index is.
PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
CONTAINERS = sorted((EXAMPLES / "containers").iterdir())


def steps(path):
    """[(instruction, rest)] of a Containerfile."""
    lines = path.read_text().splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.suffix[1:])
def test_what_a_container_copies_and_starts_is_there(path):
    stages = " ".join(rest for kind, rest in steps(path) if kind == "FROM")
    base = {"slim": "python:3.12-slim", "alpine": "python:3.12-alpine"}[path.suffix[1:]]
    assert stages == f"{base} AS build {base}"
    inside = {}  # path in the container: path here
    for kind, rest in steps(path):
        if kind == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            assert target.endswith("/")
            for source in map(ROOT.joinpath, sources):
                assert source.exists()
                files = source.rglob("*") if source.is_dir() else [source]
                root = source if source.is_dir() else source.parent
                inside |= {f"{target}{file.relative_to(root).as_posix()}": file for file in files}
    # What a build needs (test_install.py builds from the same), the service, and what it starts with.
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "ext/_kernels.pyx", "fastbilstm/__init__.py"):
        assert f"/source/{name}" in inside
    (requirements,) = re.findall(r"-r (\S+)", path.read_text())
    assert inside[requirements].is_file()
    (command,) = (json.loads(rest) for kind, rest in steps(path) if kind == "CMD")
    assert command[0] == "python" and inside[command[1]].is_file()
    options = {word for word in command if word.startswith("--")}
    assert options <= set(re.findall(r'"(--[\w-]+)"', inside[command[1]].read_text()))


@pytest.mark.skipif(not WHOLE, reason="installs packages: make examples")
def test_the_steps_of_a_container(tmp_path, monkeypatch):
    """Each stage is a folder and an environment; the service that the last one starts is asked."""
    bench = example("fastapi_service/bench_service.py", monkeypatch)
    stages = []

    def inside(text):
        """Paths of the stage in place of those from its root on."""
        return re.sub(r"(?<![\w.])/(?=(source|wheels|service)\b)", f"{stages[-1]}/", text)

    def environment():
        return {"PATH": f"{stages[-1]}/python/bin:/usr/bin:/bin", "HOME": str(stages[-1]), **PIP}

    for kind, rest in steps(EXAMPLES / "containers" / "Containerfile.slim"):
        if kind == "FROM":
            stages.append(tmp_path / f"stage{len(stages)}")
            run(sys.executable, "-m", "venv", stages[-1] / "python")
        elif kind == "COPY":
            *sources, target = rest.removeprefix("--from=build ").split()
            from_stage = rest.startswith("--from=build")
            for source in sources:
                path = stages[0] / source.strip("/") if from_stage else ROOT / source
                place = Path(inside(target))
                ignored = shutil.ignore_patterns("__pycache__", "*.so")
                if path.is_dir():
                    shutil.copytree(path, place, ignore=ignored, dirs_exist_ok=True)
                else:
                    place.mkdir(exist_ok=True)
                    shutil.copy(path, place)
        elif kind == "RUN" and "apt-get" not in rest:
            done = subprocess.run(
                inside(rest), shell=True, cwd=stages[-1], env=environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif kind == "CMD":
            command = [inside(word).replace("0.0.0.0", "127.0.0.1") for word in json.loads(rest)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"{stages[-1]}/python/bin/{command[0]}"
    with subprocess.Popen([program, *command[1:], "--port", str(port)], cwd=stages[-1], env=environment()) as process:
        try:
            bench.wait_for(port, process)
            body = json.dumps({"text": TEXTS[1]}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/classify", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                assert json.load(response)["label"] == "neg"
            shown = run(program, "-I", "-c", "import fastbilstm; print(fastbilstm.sample_model().backend)")
            assert shown == "vector\n"  # compiled
        finally:
            process.terminate()
            process.wait(30)


def test_containers_differ_in_their_base_alone():
    alike = [[line for line in steps(path) if line[0] not in ("FROM",) and "apk" not in line[1]] for path in CONTAINERS]
    assert [line for line in alike[1] if "apt-get" not in line[1]] == alike[0]
    commands = [shlex.split(rest) for path in CONTAINERS for kind, rest in steps(path) if kind == "RUN"]
    assert ["apk", "add", "--no-cache", "gcc", "musl-dev"] in commands


def test_every_script_names_itself_as_it_is_started():
    """The commands in the first lines and in README name files that are there."""
    pages = [EXAMPLES / "README.md", *EXAMPLES.glob("*/*.py"), *CONTAINERS]
    named = {name for page in pages for name in re.findall(r"examples/[\w./]+\w", page.read_text("utf-8"))}
    assert len(named) >= 9 and [name for name in named if not Path(ROOT, name).exists()] == []
