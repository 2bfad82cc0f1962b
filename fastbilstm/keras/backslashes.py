"""Files that tf.keras 2.12 or later, tf_keras or keras-core wrote on Windows: paths of objects joined by backslashes.

For HDF5 a backslash is a letter. Elsewhere there is a group layers/lstm/cell that holds a group vars; there it is one
group of the name `layers\\lstm\\cell` that holds vars. Such a file is copied in memory into the usual layout.
"""

import contextlib

from .hdf5 import attribute, child, find_array, is_group, memory_file

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


@contextlib.contextmanager
def with_slashes(file, label):
    """The file itself, or its copy in memory where names of groups hold backslashes."""
    names = [name for name in file if name.split("\\")[0] in CONTAINERS and "\\" in name]
    if not names:
        yield file
        return
    with memory_file(label) as copied:
        for name in names:
            group = child(file, name, "group", label)
            if is_group(group, "vars"):
                _copy(
                    child(group, "vars", "group", label), copied.require_group(name.replace("\\", "/") + "/vars"), label
                )
        yield copied


def _copy(source, target, label):
    text = attribute(source, "name")
    if text is not None:
        target.attrs["name"] = text
    for name in source:
        target.create_dataset(name, data=find_array(source, name, label).read())
