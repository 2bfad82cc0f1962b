"""Plugins: modules that register layer classes, named in a command, given to BatchPredictor, or installed."""

import json
import os
import pickle
import subprocess
import sys

import make_files as mf
import numpy as np
import pytest
from registered import forget_classes

import fastbilstm
from fastbilstm import InputError, UnsupportedLayerError
from fastbilstm.cli.commands import main
from fastbilstm.layers import REGISTRY, plugins

CODE = """
import fastbilstm

fastbilstm.register_layer("Twice", lambda x, mask, weights, config: config["factor"] * x, options=["factor"])
"""
NET = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense(), mf.layer("Twice", "twice", factor=2.0))
IDS = [[1, 2, 3], [4, 5, 6]]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder holds the model and the module; afterwards neither class nor module is known."""
    (tmp_path / "net.h5").write_bytes(mf.h5(NET))
    (tmp_path / "my_layers.py").write_text(CODE)
    (tmp_path / "ids.jsonl").write_text("".join(json.dumps({"ids": row}) + "\n" for row in IDS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(plugins._state, "discovered", True)
    yield tmp_path
    forget_classes()
    for name in [name for name in sys.modules if "my_layers" in name]:
        del sys.modules[name]


@pytest.fixture
def expected():
    plain = mf.sequential(mf.input_layer(), mf.embedding(), mf.lstm(), mf.dense())
    return 2 * fastbilstm.load(mf.h5(plain)).predict(IDS)


def test_without_it_the_error_tells_what_to_do(folder, capsys):
    with pytest.raises(UnsupportedLayerError, match="--plugin.*plugins=") as caught:
        fastbilstm.load("net.h5")
    for part in ("'Classes that are not Keras' own' in docs/using.md", "register_layer(", "'Twice'", "'factor': 2.0"):
        assert part in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@pytest.mark.parametrize("plugin", ["my_layers", "my_layers.py", "absolute"])
def test_commands(plugin, folder, expected, capsys):
    given = ["--plugin", str(folder / "my_layers.py") if plugin == "absolute" else plugin]
    assert main(["inspect", "net.h5", *given]) == 0 and "Twice" in capsys.readouterr().out
    assert main(["convert", "net.h5", "net.fbl", *given]) == 0
    assert main(["predict", "net.fbl", "ids.jsonl", "-o", "out.npy", *given]) == 0
    np.testing.assert_array_equal(np.load("out.npy"), expected)
    assert main(["verify", "net.fbl", *given]) == 0
    assert main(["report", "net.fbl", "-o", "page.html", "--seconds", "0.2", "--quiet", *given]) == 0


@pytest.mark.parametrize(
    "name, code, message",
    [
        ("absent_module", None, "plugin 'absent_module' cannot be imported (No module named 'absent_module')"),
        ("absent.py", None, "plugin 'absent.py' cannot be imported (there is no such file)"),
        ("my_layers_bad", "1 / 0", "plugin 'my_layers_bad' cannot be imported (ZeroDivisionError: division by zero)"),
    ],
)
def test_a_plugin_that_fails(name, code, message, folder, capsys):
    if code:
        (folder / f"{name}.py").write_text(code)
    assert main(["inspect", "net.h5", "--plugin", name]) == 2
    assert capsys.readouterr().err == f"fastbilstm: {message}\n"


def test_batch_predictors_take_it_to_other_processes(folder, expected):
    predictor = fastbilstm.BatchPredictor("net.h5", columns="ids", plugins=["my_layers"])
    (folder / "predictor.pickle").write_bytes(pickle.dumps(predictor))
    code = "import pickle, sys; p = pickle.load(open('predictor.pickle', 'rb'))\n"
    code += f"print(p({{'ids': {IDS}}})['prediction'].tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.array(json.loads(done.stdout), "f4"), expected)
    with pytest.raises(InputError, match="plugins: options of load"):
        fastbilstm.BatchPredictor(fastbilstm.sample_model(), plugins=["my_layers"])
    with pytest.raises(InputError, match="plugins are 5; expected a list of names"):
        fastbilstm.BatchPredictor("net.h5", plugins=5)


def installed(folder, value, name="mine"):
    """A package with an entry point, as pip leaves it in site-packages."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fastbilstm.layers]\n{name} = {value}\n")
    sys.path.append(str(folder))
    plugins._state["discovered"] = False


def test_installed_packages_are_found(folder, expected):
    installed(folder, "my_layers")
    np.testing.assert_array_equal(fastbilstm.load("net.h5").predict(IDS), expected)
    assert plugins.discover() is False  # once in a process


def test_converted_files_and_functions(folder, expected):
    plugins.load_plugins(["my_layers.py"])
    fastbilstm.convert("net.h5", "net.fbl")
    del REGISTRY["Twice"]
    (folder / "my_layers_later.py").write_text("def register():\n" + CODE.replace("\n", "\n    "))
    installed(folder, "my_layers_later:register")
    np.testing.assert_array_equal(fastbilstm.load("net.fbl").predict(IDS), expected)


def test_a_package_that_fails_is_a_warning(folder):
    (folder / "my_layers_bad.py").write_text("1 / 0")
    installed(folder, "my_layers_bad", "broken")
    with pytest.warns(RuntimeWarning, match="'broken' .my_layers_bad. of fastbilstm.layers.*ZeroDivisionError"):
        with pytest.raises(UnsupportedLayerError, match="Twice"):
            fastbilstm.load("net.h5")


def test_files_of_keras_classes_look_for_no_packages(folder):
    plugins._state["discovered"] = False
    fastbilstm.sample_model()
    assert plugins._state["discovered"] is False


FORKS = """
import os, sys, threading, time
from fastbilstm.layers import plugins

worker = threading.Thread(target=plugins.load_plugins, args=([sys.argv[1]],))
worker.start()
while not os.path.exists("begun"):
    time.sleep(0.001)
child = os.fork()
if not child:
    os._exit(0)
worker.join()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_a_plugin_registers_its_classes(tmp_path):
    code = "import time, fastbilstm\nopen('begun', 'w').close()\ntime.sleep(0.3)\n"
    (tmp_path / "slow.py").write_text(f"{code}fastbilstm.register_layer('Slow', lambda x, mask, weights, config: x)\n")
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path / "slow.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "0\n", done.stderr
