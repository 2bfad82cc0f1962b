"""Partial: a file written in pieces, whole or not at all, which a killed run leaves for the next to go on with.

Beside the target lie `<target>.partial`, which is only ever appended to (further parts are numbered), and a journal:
its first line tells what the pieces were made of, each further one that everything up to some offsets is on the disk.
Going on cuts the parts at the last of them. The target's name appears when all is written. Standard library only.
"""

import contextlib
import hashlib
import json
import os
import time

from ..errors import FastBiLSTMError

try:
    import fcntl
except ImportError:  # Windows: nothing tells that another process writes the same file
    fcntl = None

# Seconds between two entries of the journal: each waits for the disk.
INTERVAL = 0.5


def file_identity(path, content=False):
    """What tells a file from another: its size, and the time of its last change or the SHA-256 of its content."""
    state = os.stat(path)
    if not content:
        return f"{state.st_size} bytes, changed at {state.st_mtime_ns} ns"
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return f"{state.st_size} bytes, SHA-256 {digest.hexdigest()}"


def _damaged(target, what):
    return FastBiLSTMError(f"{target}: --resume: {what}; start anew with --overwrite")


class Partial:
    """The parts of one output.

    Parameters
    ----------
    target : str
    identity : dict of str to str
        What the content depends on; going on with another is refused.
    parts : int
        Number of parts.
    resume, overwrite : bool
        Whether to go on with what an interrupted run left; whether to replace the target, and what was left.

    Attributes
    ----------
    done : dict or None
        What `checkpoint` was given last by the run that is gone on with.
    """

    def __init__(self, target, identity, parts, resume=False, overwrite=False):
        self.target, self.identity = target, identity
        self.paths = [f"{target}.partial" if k == 0 else f"{target}.partial.{k}" for k in range(parts)]
        self.journal_path, self.whole_path = f"{target}.partial.journal", f"{target}.partial.whole"
        self.files, self.journal, self.journal_length = [], None, 0
        self.done, self.pending, self.last = None, None, 0.0
        if os.path.isdir(target):
            raise FastBiLSTMError(f"{target}: is a folder; give the name of a file")
        if os.path.exists(target) and not overwrite:
            raise FastBiLSTMError(f"{target}: exists already; allow it with --overwrite or choose another")
        left = os.path.exists(self.paths[0]) and os.path.exists(self.journal_path)
        if left and not resume and not overwrite:
            raise FastBiLSTMError(
                f"{target}: {self.paths[0]} was left by an interrupted run, or is being written now; go on with it by "
                "--resume, or start anew with --overwrite"
            )
        with self._telling():
            self.journal = open(self.journal_path, "rb+" if os.path.exists(self.journal_path) else "wb+")
        self._lock()
        entries = self._entries() if left and resume else []
        with self._telling():
            if len(entries) > 1:
                self._go_on(entries)
            else:
                self._begin()

    @contextlib.contextmanager
    def _telling(self):
        try:
            yield
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error):
        text = f"{self.target}: cannot be written ({error.strerror or error})"
        if self.last:
            text += f"; the rows done are in {self.paths[0]}: go on with --resume, or delete it"
        return FastBiLSTMError(text)

    def _lock(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self.journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.journal.close()
            raise FastBiLSTMError(f"{self.target}: another process is writing it now") from error
        except OSError:
            pass  # a file system without locks

    def _entries(self):
        """The journal's whole lines: the identity, and what was done."""
        self.journal.seek(0)
        entries = []
        for line in self.journal.read().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self.journal_length += len(line)
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                raise _damaged(self.target, f"{self.journal_path} is damaged ({error})") from error
        if entries and entries[0] != self.identity:
            was = entries[0] if isinstance(entries[0], dict) else {}
            for name in [*self.identity, *was]:
                if was.get(name) != self.identity.get(name):
                    raise _damaged(
                        self.target,
                        f"the {name} of the interrupted run was {was.get(name)}, now it is {self.identity.get(name)}",
                    )
        return entries

    def _go_on(self, entries):
        self.done = entries[-1]
        offsets = self.done["offsets"]
        for path, offset in zip(self.paths, offsets, strict=True):
            if not os.path.exists(path) or os.path.getsize(path) < offset:
                raise _damaged(self.target, f"{path} is shorter than its journal says")
            file = open(path, "rb+")
            self.files.append(file)
            file.truncate(offset)
            file.seek(offset)
        self.last = time.monotonic()

    def _begin(self):
        self.journal_length = 0
        try:
            self._write_journal(self._line(self.identity))
            self.files = [open(path, "wb+") for path in self.paths]
        except BaseException:
            self.discard()
            raise

    @staticmethod
    def _line(entry):
        return json.dumps(entry).encode() + b"\n"

    def _write_journal(self, line):
        # Over what an interruption may have left of a line.
        self.journal.seek(self.journal_length)
        self.journal.truncate()
        self.journal.write(line)
        self.journal.flush()
        os.fsync(self.journal.fileno())
        self.journal_length += len(line)

    def append(self, pieces):
        """Add bytes to each part; None or b"" adds nothing."""
        with self._telling():
            for file, piece in zip(self.files, pieces, strict=True):
                if piece:
                    file.write(piece)

    def checkpoint(self, state):
        """Everything up to here belongs together; `state` (plain JSON) comes back as `done`."""
        with self._telling():
            self.pending = self._line({**state, "offsets": [file.tell() for file in self.files]})
            if not self.last or time.monotonic() - self.last >= INTERVAL:
                self.sync()

    def sync(self):
        """Note in the journal, once it is on the disk, what the last checkpoint told; more may have been written."""
        if self.pending is None:
            return
        with self._telling():
            for file in self.files:
                file.flush()
                os.fsync(file.fileno())
            self._write_journal(self.pending)
        self.pending, self.last = None, time.monotonic()

    def finish(self, assemble, others=()):
        """Give the target its name.

        `assemble(files, path)` may write the whole to `path` from the parts and return true; else the first part is the
        whole. `others` are pairs of the number of a part and its own target.
        """
        with self._telling():
            whole = self.whole_path if assemble(self.files, self.whole_path) else self.paths[0]
            for file in self.files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            with open(whole, "rb+") as file:
                os.fsync(file.fileno())
            for part, path in others:
                os.replace(self.paths[part], path)
            os.replace(whole, self.target)
        self.discard()

    def discard(self):
        """Remove what lies beside the target."""
        self.close()
        for path in (*self.paths, self.whole_path, self.journal_path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def close(self):
        for file in [*self.files, self.journal]:
            with contextlib.suppress(OSError):
                file.close()
