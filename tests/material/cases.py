"""THE table of golden cases: Keras files and what Keras answers. The rows are tests/golden/index.json, one a line.

tools/golden/make_golden.py writes the rows, the files and the answers; `derived` rows were worked out by hand because
the framework that wrote such files no longer installs. Each case is a folder of an archive in tests/golden: the model
as its framework saved it, config.json or config.yaml where the architecture lies beside the weights, and values.npz.
Imports NumPy only.
"""

import functools
import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paths import GOLDEN


@dataclass(frozen=True)
class Case:
    """One golden case.

    Attributes
    ----------
    name, why : str
        What the case is called, and in a few words what it is there for.
    writer : str
        Framework and version that wrote the file and answered, such as "tf_keras 2.21.0".
    file, config : str
        The model's file name and, where the file holds weights only, that of its architecture (else None).
    derived : bool
        The answers were worked out by hand from `source` (file and line in the writer's source).
    covers : tuple of str
        Layer classes and options in it, such as "LSTM" and "LSTM.go_backwards=true".
    outputs : tuple of str or None
        Layers at which the graph is cut.
    pack : str
        The archive in tests/golden.
    tolerance : str
        The rule of fastbilstm.tolerances: "keras", the same for every case.
    """

    name: str
    why: str
    writer: str
    pack: str
    file: str
    config: str | None
    outputs: tuple[str, ...] | None
    derived: bool
    source: str | None
    covers: tuple[str, ...]
    tolerance: str = "keras"

    def read(self, member):
        """Bytes of one of the case's files."""
        return _archive(self.pack).read(f"{self.name}/{member}")

    def load_args(self, folder=None):
        """Keyword arguments for `fastbilstm.load`; the model as bytes, or written into `folder` and given as a path."""
        if folder is None and self.file.endswith(".weights.json"):
            folder = _folder(self.name)  # an index names files beside it
        args = {"path": self.read(self.file)}
        if self.config:
            text = self.read(self.config)
            args["config"] = text.decode() if self.config.endswith("json") else text
        if folder is not None:
            args["path"] = Path(folder) / self.file
            args["path"].write_bytes(self.read(self.file))
            for shard in self.shards:
                (Path(folder) / shard).write_bytes(self.read(shard))
            if self.config:
                args["config"] = Path(folder) / self.config
                args["config"].write_bytes(self.read(self.config))
        if self.outputs:
            args["outputs"] = list(self.outputs)
        return args

    @property
    def shards(self):
        """Names of the files that lie beside an index of sharded weights."""
        members = [name.partition("/") for name in _archive(self.pack).namelist()]
        return sorted(file for case, _, file in members if case == self.name and file.startswith("model_"))

    @property
    def inputs(self):
        """The inputs of successive calls (more than one for stateful models): arrays, lists or dicts of arrays."""
        return self._values("inputs")

    def expected(self, dtype):
        """The answers of those calls, as Keras gave them in "float32" or "float64", or "half" of some models."""
        return self._values(dtype)

    def _values(self, kind):
        arrays = _arrays(self)
        calls = 1 + max(int(key.split("/")[0]) for key in arrays)
        return [_structure(arrays, f"{call}/{kind}/") for call in range(calls)]


def _structure(arrays, prefix):
    found = {key[len(prefix) :]: x for key, x in arrays.items() if key.startswith(prefix)}
    if set(found) == {"array"}:
        return found["array"]
    if all(key.startswith("list/") for key in found):
        return [found[f"list/{i}"] for i in range(len(found))]
    return {key.removeprefix("dict/"): x for key, x in found.items()}


@functools.cache
def _temporary():
    return tempfile.TemporaryDirectory()


def _folder(name):
    folder = Path(_temporary().name) / name
    folder.mkdir(exist_ok=True)
    return folder


@functools.cache
def _archive(pack):
    return zipfile.ZipFile(GOLDEN / pack)


@functools.cache
def _arrays(case):
    with np.load(io.BytesIO(case.read("values.npz"))) as arrays:
        return dict(arrays)


def _rows():
    for row in json.loads((GOLDEN / "index.json").read_text()):
        outputs = tuple(row["outputs"]) if row["outputs"] else None
        yield Case(**(row | {"outputs": outputs, "covers": tuple(row["covers"])}))


CASES = tuple(_rows())


def listed(y):
    """An output as a list of (label, array)."""
    if isinstance(y, dict):
        return sorted(y.items())
    if isinstance(y, list | tuple):
        return list(enumerate(y))
    return [("output", y)]


def in_dtype(inputs, dtype):
    cast = lambda x: x.astype(dtype) if x.dtype.kind == "f" else x  # noqa: E731
    if isinstance(inputs, dict):
        return {name: cast(x) for name, x in inputs.items()}
    return [cast(x) for x in inputs] if isinstance(inputs, list) else cast(inputs)
