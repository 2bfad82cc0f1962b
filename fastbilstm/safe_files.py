"""Files that are written whole or not at all, and whether a file is still the one that was read.

New files are created exclusively and no symbolic link is followed, so that nothing of the user's is written over. What
is whole gets its name by a rename. Imports the standard library; errors are OSError, which callers turn into ours.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from io import BufferedRandom

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def identity(file: str | os.PathLike[str] | int) -> tuple[int, int, int]:
    """What tells the file of a path or a descriptor from another, and from itself after a change."""
    state = os.stat(file)
    return state.st_ino, state.st_size, state.st_mtime_ns


def is_still(path: str | os.PathLike[str], known: tuple[int, int, int]) -> bool:
    """Whether the file of this name is the one that `identity` told of, unchanged."""
    try:
        return identity(path) == known
    except OSError:
        return False


def mode_of(path: str | os.PathLike[str]) -> int | None:
    """The permissions of an existing file, which one that replaces it keeps; None if there is none."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    except OSError:
        return None


def create(path: str, target: str) -> BufferedRandom:
    """A new file, open for writing and reading, that is to become `target` or lies beside it; FileExistsError if there
    is one, or a link, under its name. Nobody else may read it where `target` exists: that may be a private file.
    """
    mode = 0o666 if mode_of(target) is None else 0o600
    return open(path, "xb+", opener=lambda name, flags: os.open(name, flags | _NOFOLLOW, mode))


def create_temporary(target: str) -> BufferedRandom:
    """`create` under a random name in the folder of `target`."""
    folder = os.path.dirname(os.path.abspath(target))
    return create(os.path.join(folder, f".{os.urandom(8).hex()}.partial"), target)


def reopen(path: str) -> BufferedRandom:
    """An existing regular file, open for writing and reading; OSError for a link, a pipe or a folder."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "Is no regular file", path)
    return open(path, "rb+", opener=lambda name, flags: os.open(name, flags | _NOFOLLOW))


def to_disk(file: Any) -> None:
    """Everything written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def folder_to_disk(path: str) -> None:
    """The names in the folder of `path` are on the disk, where a system can tell."""
    try:
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except OSError:
        return  # Windows, or a folder that may not be read
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(folder)


def publish(path: str, target: str) -> None:
    """Give a whole file the name of its target, and the permissions of the file that it replaces."""
    mode = mode_of(target)
    if mode not in (None, mode_of(path)):
        os.chmod(path, mode)
    os.replace(path, target)
    folder_to_disk(target)


def remove(*paths: str) -> None:
    """Remove files, as far as that is possible."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
