"""Faults of a disk: the n-th write, fsync, rename, opening or reading of files below a folder fails, or all ends there.

`Faults` takes the place of `open` and of what `os` does to files. Buffers are Python's own over a raw file that counts,
so that errors come where a system gives them: at a flush or a close as well as at a write.
"""

import builtins
import collections
import errno
import io
import os

KINDS = ("open", "write", "fsync", "rename", "read")
# What a process that is killed may have been about to do.
CHANGES = ("open", "write", "fsync", "rename", "unlink", "chmod", "truncate")


class Crash(BaseException):
    """The process is killed: whatever it still tries, nothing reaches the disk."""


class Faults:
    """Counts operations; fails the one of number `at` among those of `kinds` (None: none).

    `crash`: nothing after it reaches the disk either, as after a kill. Else it is an error, once; a write that fails
    has written half, as on a full disk.
    """

    def __init__(self, folder, kinds=(), at=None, crash=False):
        self.folder, self.kinds, self.at, self.crash = os.path.abspath(folder) + os.sep, kinds, at, crash
        self.count, self.counts, self.failed, self.dead, self.raws = 0, collections.Counter(), None, False, []

    def install(self, monkeypatch):
        self.real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "unlink", "chmod")}
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self.open)
        monkeypatch.setattr(os, "open", self.os_open)
        monkeypatch.setattr(os, "fsync", lambda file: self.reach("fsync", file))
        for name, kind in (("replace", "rename"), ("rename", "rename"), ("unlink", "unlink"), ("chmod", "chmod")):
            monkeypatch.setattr(os, name, self.wrapped(name, kind))

    def is_ours(self, path):
        if isinstance(path, int):
            return True  # of os.fsync, which only ever gets files of ours
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)

    def reach(self, kind, path):
        """One more operation: passes, or is the one that fails."""
        if not self.is_ours(path):
            return
        if self.dead:
            raise Crash
        self.counts[kind] += 1
        if kind not in self.kinds:
            return
        self.count += 1
        if self.count - 1 == self.at:
            self.failed = (kind, path)
            if self.crash:
                self.dead = True
                raise Crash
            raise OSError(errno.ENOSPC if kind == "write" else errno.EIO, f"injected fault of {kind}", path)

    def wrapped(self, name, kind):
        def function(path, *args, **kwargs):
            self.reach(kind, path)
            return self.real[name](path, *args, **kwargs)

        return function

    def os_open(self, path, flags, *args, **kwargs):
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or not os.path.isdir(path):
            self.reach("open" if writes else "read", path)
        return self.real["open"](path, flags, *args, **kwargs)

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        if isinstance(file, int) or not self.is_ours(file):
            return REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        writes = not set(mode).isdisjoint("wax+")
        if opener is None:
            self.reach("open" if writes else "read", file)
        raw = RawFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.faults = self
        self.raws.append(raw)
        if buffering == 0:
            return raw
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter if writes else io.BufferedReader
        buffered = kind(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def end(self):
        """What a system does when a process has ended: its files are closed, and what it buffered is lost."""
        self.dead = True
        for raw in self.raws:
            raw.close()


REAL_OPEN = builtins.open


class RawFile(io.FileIO):
    faults, full = None, False

    def write(self, content):
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "injected fault of write", self.name)
        before = self.faults.failed
        try:
            self.faults.reach("write", self.name)
        except (OSError, Crash) as error:
            half = memoryview(content).cast("B")[: len(content) // 2]
            if before is not None or not half:
                raise
            written = super().write(half)
            if isinstance(error, Crash):
                raise
            self.full = True
            return written
        return super().write(content)

    def truncate(self, size=None):
        self.faults.reach("truncate", self.name)
        return super().truncate(size)

    def readinto(self, buffer):
        self.faults.reach("read", self.name)
        return super().readinto(buffer)

    def readall(self):
        self.faults.reach("read", self.name)
        return super().readall()

    def read(self, size=-1):
        self.faults.reach("read", self.name)
        return super().read(size)
