"""The bytes of a converted file: read into memory, or of a large file mapped, so that processes share them.

Imports NumPy.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

import numpy as np

from .. import safe_files
from ..errors import FileFormatError

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

# Bytes of a file that is read into memory at most; a larger one is mapped. Processes share mapped pages, and have what
# they read alone: of models of 3, 30, 100 and 300 MB each process has 3, 27, 100 and 290 MB more of its own, beside 18
# to 23 MB for Python, NumPy and packed weights. To load they take less than 1, 5, 15 and 50 ms more, of 18, 40, 80 and
# 200 ms; predictions take the same time. CPU time of one core of a Zen 4, the file in the page cache.
MAPPED_FROM = 64 * 2**20


class Mapped:
    """A large file in memory as the system maps it: processes share its pages, and whoever writes into the file changes
    them. `content` holds its bytes; `check` refuses a file that was changed since.
    """

    def __init__(self, file: BinaryIO, label: str) -> None:
        self.content, self.label = np.memmap(file, np.uint8, "r"), label
        # The file itself, whatever becomes of its name: a file that is replaced by a rename stays as it is.
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._identity = safe_files.identity(self._descriptor)

    def check(self) -> None:
        if safe_files.identity(self._descriptor) != self._identity:
            raise FileFormatError(
                f"{self.label}: was written into after it was loaded, and a file of this size is read where it lies: "
                "load it again, and replace such a file by renaming another one"
            )


def content_of(source: str | bytes, label: str) -> tuple[NDArray[np.uint8], Mapped | None]:
    """The bytes of a path or of bytes, as an array, and the Mapped they belong to or None."""
    if isinstance(source, bytes):
        return np.frombuffer(source, np.uint8), None
    try:
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAPPED_FROM:
                mapped = Mapped(file, label)
                return mapped.content, mapped
            content = np.empty(size, np.uint8)
            content = content[: file.readinto(content.data)]
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{label}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    content.flags.writeable = False
    return content, None
