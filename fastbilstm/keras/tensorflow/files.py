"""The files of a SavedModel or a checkpoint, by name: those of a folder, or the members of a zip of one.

A file of a folder is read piece by piece, a member of a zip is in memory as a whole. Knows no formats.
"""

import errno
import os

from ... import safe_files
from ...checks import read_file
from ...errors import FileFormatError, MissingFileError, unreadable
from ..archive import open_archive

PROGRAM = "saved_model.pb"
# What a SavedModel holds beside its program, as far as it is read.
_PARTS = ("keras_metadata.pb", "variables/variables.", "assets/")


class Folder:
    """Files below a folder."""

    def __init__(self, path):
        self.path, self._known = path, {}

    def has(self, name):
        return os.path.isfile(self.name(name))

    def name(self, name):
        """What messages call a file."""
        return os.path.join(self.path, *name.split("/"))

    def size(self, name):
        path = self.name(name)
        try:
            self._known.setdefault(path, safe_files.identity(path))
            return os.path.getsize(path)
        except FileNotFoundError:
            text = f"{path}: is missing; it is a part of the model"
            raise MissingFileError(text, errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        except OSError as error:
            raise unreadable(path, error) from None

    def read(self, name):
        self.size(name)
        return read_file(self.name(name))

    def read_range(self, name, offset, size):
        path = self.name(name)
        content = read_file(path, size, offset=offset)
        if len(content) != size:
            raise FileFormatError(f"{path}: was cut off while it was read; load it again")
        return content

    def check_unchanged(self):
        """FileFormatError if a file that was read is not the one that it was at first."""
        for path, known in self._known.items():
            if not safe_files.is_still(path, known):
                raise FileFormatError(f"{path}: was changed or replaced while it was read; load it again")


class Members:
    """The members of a zip below the folder in it that holds a SavedModel."""

    def __init__(self, source, label):
        self.label = label
        with open_archive(source, label, "zip of a SavedModel folder") as (names, read):
            root = saved_model_in(names)
            parts = [name for name in names if name.startswith((f"{root}{PROGRAM}", *(root + p for p in _PARTS)))]
            self._contents = {name[len(root) :]: read(name, None) for name in parts if not name.endswith("/")}

    def has(self, name):
        return name in self._contents

    def name(self, name):
        return f"{self.label}: {name}"

    def size(self, name):
        return len(self.read(name))

    def read(self, name):
        if name not in self._contents:
            raise FileFormatError(f"{self.label}: the archive has no {name}")
        return self._contents[name]

    def read_range(self, name, offset, size):
        return self.read(name)[offset : offset + size]

    def check_unchanged(self):
        pass


def saved_model_in(names):
    """The folder of a zip (with a slash, or empty) that holds a SavedModel; None if there is none."""
    found = [name[: -len(PROGRAM)] for name in names if name.rpartition("/")[2] == PROGRAM]
    return min(found, key=len) if found else None


def is_zipped_saved_model(source, label):
    """Whether a zip holds a SavedModel; of a damaged one the reader of .keras archives tells what is wrong."""
    try:
        with open_archive(source, label, "zip") as (names, _):
            return saved_model_in(names) is not None
    except FileFormatError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return False
