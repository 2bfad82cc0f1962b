"""The architecture that a user gives beside weights: a dict, JSON text, or a JSON or YAML file -> a dict.

Imports PyYAML, an optional package, where a text is no JSON.
"""

import json
import os

from ..checks import read_file
from ..errors import FileFormatError, MissingExtraError, unless_missing
from .config import split_config

# The most values in a YAML architecture, with aliases written out; the largest known models have thousands.
_MAX_YAML = 1_000_000
# The most characters of a YAML number: for sexagesimal ones, time grows with the square of the length.
_MAX_DIGITS = 100


def given_config(config, label):
    """The architecture for a file that holds none, checked as far as it names a model."""
    if config is None:
        raise FileFormatError(
            f"{label}: holds weights and no architecture; give the model's JSON or YAML as config= (--config)"
        )
    model = read_config(config, label)
    split_config(model, label)
    return model


def read_config(config, label):
    """Read an architecture: a dict, JSON text, or the path of a JSON or YAML file."""
    if isinstance(config, dict):
        return config
    text = os.fspath(config) if isinstance(config, (str, os.PathLike)) else config
    if isinstance(text, str) and not text.lstrip().startswith("{"):
        label = text if len(text) < 300 else f"{text[:100]}..."
        text = read_file(text, name=f"config {label}")
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"config is of type {type(config).__name__}; expected a dict, JSON text or a path")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"config {label}: is no UTF-8 text ({error})") from error
    value = _parse(text, label)
    if isinstance(value, str):
        # model.to_json() written with json.dump, or to_yaml() with yaml.dump: JSON inside JSON, YAML inside YAML.
        value = _parse(value, label)
    if not isinstance(value, dict):
        raise FileFormatError(f"config {label}: is no JSON or YAML description of a model")
    return value


def _parse(text, label):
    try:
        return json.loads(text)
    except RecursionError as error:
        raise FileFormatError(f"config {label}: nested too deeply") from error
    except ValueError:
        return _read_yaml(text, label)


def _read_yaml(text, label):
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError(
            "PyYAML", "yaml", f"reading {label} (it is no valid JSON; as YAML it)"
        ) from unless_missing(error)

    class Loader(yaml.SafeLoader):
        """The safe loader, and Python tuples, which Keras writes."""

    Loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node))
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_yaml(node, label)
        return loader.construct_document(node)
    except FileFormatError:
        raise
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        # PyYAML lets errors of int(), datetime() and others through.
        raise FileFormatError(f"config {label}: neither valid JSON nor YAML ({str(error)[:200]})") from error


def _check_yaml(node, label):
    """Refuse YAML whose values take far more than its text: aliases of aliases, merge keys, long numbers."""
    stack, count = [node], 0
    while stack:
        item, count = stack.pop(), count + 1
        if count > _MAX_YAML:
            raise FileFormatError(f"config {label}: its aliases expand to more than {_MAX_YAML} values; refused")
        if item.tag == "tag:yaml.org,2002:merge":
            raise FileFormatError(f"config {label}: has a merge key (<<), which Keras does not write; refused")
        if item.id == "scalar":
            if len(item.value) > _MAX_DIGITS and item.tag.endswith((":int", ":float")):
                raise FileFormatError(f"config {label}: has a number of {len(item.value)} characters; refused")
        else:
            parts = item.value
            stack += parts if item.id == "sequence" else [part for pair in parts for part in pair]
