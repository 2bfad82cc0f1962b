"""Partial: an output file that is complete or absent. If a run is killed, the next run can resume it.

While a run writes, each target has a part `<target>.partial` next to it (more parts are numbered). Parts are only
appended to. The first part has a journal next to it:

    first line     what the output depends on, and the names of the files that belong to the run
    further lines  offsets: everything before them is on the disk
    last line      only renames are left

To resume, a run cuts the parts at the last offsets, or does the renames. It never writes to a file that no journal of
ours lists. Standard library only.
"""

import contextlib
import hashlib
import json
import os
import time

from .. import safe_files
from ..checks import check_not_read
from ..errors import FastBiLSTMError, InputError

try:
    import fcntl
except ImportError:  # on Windows nothing shows that another process writes the same file
    fcntl = None

# Seconds between two lines of the journal: each line waits for the disk.
INTERVAL = 0.5
# How a journal begins. Its first line has the identity of the run and the names that belong to it.
_MAGIC = b'{"fastbilstm predict journal": 1, '


def file_identity(path, content=False):
    """The identity of a file, in words: its size, and the time of its last change or its SHA-256."""
    with _reading(path):
        size, changed = safe_files.identity(path)[1:]
    if not content:
        return f"{size} bytes, changed at {changed} ns"
    with contextlib.closing(PrefixDigest(path)) as digest:
        return digest.of(size)


@contextlib.contextmanager
def _reading(path):
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


class PrefixDigest:
    """SHA-256 of the first bytes of files, one after another, for growing numbers of bytes."""

    def __init__(self, *paths):
        self.paths, self.done, self.sha256 = list(paths), 0, hashlib.sha256()
        self._open()

    def _open(self):
        self.path = self.paths.pop(0)
        with _reading(self.path):
            self.file = open(self.path, "rb")

    def of(self, size):
        """The digest of the first `size` bytes, in words; `size` must not be less than in the last call."""
        while self.done < size:
            with _reading(self.path):
                block = self.file.read(min(2**20, size - self.done))
            self.sha256.update(block)
            self.done += len(block)
            if not block:
                if not self.paths:
                    break
                self.close()
                self._open()
        return f"{self.done} bytes, SHA-256 {self.sha256.hexdigest()}"

    def close(self):
        self.file.close()


def _damaged(target, what):
    return FastBiLSTMError(f"{target}: --resume: {what}; start anew with --overwrite")


class Partial:
    """The parts of one output, and of the files that belong to it.

    Parameters
    ----------
    target : str
    identity : dict of str to str
        What the content depends on. A run with another identity cannot be resumed.
    parts : int
        Number of parts.
    others : dict of int to str
        Parts that become files of their own: {number of the part: target}.
    resume, overwrite : bool
        Whether to resume an interrupted run; whether to replace the targets and the parts of an interrupted run.
    sources : list of str
        Files that the run reads, and must not write to.

    Attributes
    ----------
    done : dict or None
        The last `state` that the interrupted run gave to `checkpoint`.
    finished : bool
        Whether the targets are complete, because only renames were left to do.
    """

    can_resume = True

    def __init__(self, target, identity, parts, others=None, resume=False, overwrite=False, sources=()):
        self.target, self.identity, self.others, self.overwrite = target, identity, others or {}, overwrite
        names = [f"{target}.partial", *(f"{target}.partial.{k}" for k in range(1, parts))]
        self.paths = [f"{self.others[k]}.partial" if k in self.others else name for k, name in enumerate(names)]
        self.journal_path, self.whole_path = f"{target}.partial.journal", f"{target}.partial.whole"
        self.files, self.journal, self.journal_length, self.owned = [], None, 0, set()
        self.done, self.pending, self.last, self.finished, self.state = None, None, 0.0, False, {}
        self._check_names(sources)
        try:
            entries = self._open_journal()
            if resume and self._ended(entries):
                self._finish_renames(entries[-1])
                return
            self._check_existing(resume)
            with self._telling():
                if resume and len(entries) > 1 and ("whole" not in entries[-1] or all(map(os.path.exists, self.paths))):
                    self._go_on(entries)
                else:
                    self._begin()
        except BaseException:
            self.close()
            raise

    # ---- names ------------------------------------------------------------------------------------------------------

    def _own_names(self):
        """All names that a run uses before the targets get their names."""
        return [*self.paths, self.whole_path, self.journal_path]

    def _listed(self, path):
        """A name as the journal lists it: with its folder only if that is not the folder of the journal."""
        folder, name = os.path.split(os.path.abspath(path))
        return name if folder == os.path.dirname(os.path.abspath(self.target)) else os.path.join(folder, name)

    def _check_names(self, sources):
        targets, seen = [*self.others.values(), self.target], set()
        for path in targets:
            if os.path.isdir(path):
                raise FastBiLSTMError(f"{path}: is a folder; give the name of a file")
        for path in (*targets, *self._own_names()):
            check_not_read(path, sources)
            where = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if where in seen:
                raise InputError(f"{path}: is needed twice while {self.target} is written; choose another name")
            seen.add(where)

    def _check_existing(self, resume):
        """Refuse to use a name if a file has it, unless the file belongs to the run or may be replaced."""
        left = [path for path in self._own_names()[:-1] if os.path.lexists(path)]
        for path in left:
            if self._listed(path) not in self.owned:
                raise FastBiLSTMError(
                    f"{path}: is needed while {self.target} is written, and no interrupted run left it: move it, or "
                    "choose another output"
                )
        for path in (*self.others.values(), self.target):
            if os.path.lexists(path) and not self.overwrite:
                raise FastBiLSTMError(f"{path}: exists already; allow it with --overwrite or choose another")
        if left and not resume and not self.overwrite:
            raise FastBiLSTMError(
                f"{self.target}: {left[0]} was left by an interrupted run, or is being written now; go on with it by "
                "--resume, or start anew with --overwrite"
            )

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

    # ---- the journal ------------------------------------------------------------------------------------------------

    def _open_journal(self):
        """Open and lock the journal; returns the complete lines that an interrupted run left, else []."""
        if not os.path.lexists(self.journal_path):
            return []
        with self._telling():
            self.journal = safe_files.reopen(self.journal_path)
            self._lock()
            content = self.journal.read()
        if content[: len(_MAGIC)] != _MAGIC[: len(content)]:
            raise FastBiLSTMError(
                f"{self.journal_path}: is needed while {self.target} is written, and no interrupted run left it: move "
                "it, or choose another output"
            )
        self.owned = {self._listed(self.journal_path)}
        lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        self.journal_length = sum(map(len, lines))
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                entries.append(error)
        if entries:
            head = entries[0] if isinstance(entries[0], dict) else {}
            # If the first line of the journal is damaged, take the names that it would have listed.
            self.owned.update(head.get("files") or map(self._listed, self._own_names()))
        return entries

    def _lock(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self.journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FastBiLSTMError(f"{self.target}: another process is writing it now") from error
        except OSError:
            return  # a file system without locks
        # Another process may have ended between the opening of its journal here and the lock.
        if not safe_files.is_still(self.journal_path, safe_files.identity(self.journal.fileno())):
            raise FastBiLSTMError(f"{self.target}: another process is writing it now")

    def _ended(self, entries):
        """Whether only renames are left in the run of these lines; raises if it is another run."""
        if not entries:
            return False
        for key, entry in zip(["identity", *["offsets"] * len(entries)], entries):
            if not isinstance(entry, dict) or not isinstance(entry.get(key), list if key == "offsets" else dict):
                raise _damaged(self.target, f"{self.journal_path} is damaged ({str(entry)[:80]})")
        was = entries[0]["identity"]
        for name in [*self.identity, *was]:
            if was.get(name) != self.identity.get(name):
                what = f"the {name} of the interrupted run was {was.get(name)}, now it is {self.identity.get(name)}"
                raise _damaged(self.target, what)
        return "whole" in entries[-1] and self._renames_are_due(entries[-1]["whole"])

    @staticmethod
    def _line(entry):
        return json.dumps(entry).encode() + b"\n"

    def _write_journal(self, line):
        # This overwrites a line that an interruption left incomplete.
        self.journal.seek(self.journal_length)
        self.journal.truncate()
        self.journal.write(line)
        safe_files.to_disk(self.journal)
        self.journal_length += len(line)

    # ---- the beginning ----------------------------------------------------------------------------------------------

    def _go_on(self, entries):
        self.done = self.state = entries[-1]
        pairs = list(zip(self.paths, self.done["offsets"], strict=True))
        for path, offset in pairs:
            if not os.path.exists(path) or os.path.getsize(path) < offset:
                raise _damaged(self.target, f"{path} is shorter than its journal says")
        for path, offset in pairs:
            file = safe_files.reopen(path)
            self.files.append(file)
            file.truncate(offset)
            file.seek(offset)
        self.last = time.monotonic()

    def _begin(self):
        try:
            if self.journal is None:
                self.journal = safe_files.create(self.journal_path, self.target)
                self._lock()
                self.owned.add(self._listed(self.journal_path))
            self._remove(*self.paths, self.whole_path)
            self.journal_length = 0
            names = [self._listed(path) for path in self._own_names()]
            self._write_journal(
                self._line({"fastbilstm predict journal": 1, "identity": self.identity, "files": names})
            )
            for number, path in enumerate(self.paths):
                self.files.append(self._create(path, self.others.get(number, self.target)))
            for path in {os.path.dirname(path): path for path in self.paths}.values():
                safe_files.folder_to_disk(path)
        except BaseException:
            self.discard()
            raise

    def _create(self, path, target):
        file = safe_files.create(path, target)
        self.owned.add(self._listed(path))
        return file

    # ---- pieces -----------------------------------------------------------------------------------------------------

    def append(self, pieces):
        """Add bytes to each part; None or b"" adds nothing."""
        with self._telling():
            for file, piece in zip(self.files, pieces, strict=True):
                if piece:
                    file.write(piece)

    def checkpoint(self, state):
        """Note that the parts fit together at this point; `state` (plain JSON) comes back as `done`."""
        with self._telling():
            self.state = {**state, "offsets": [file.tell() for file in self.files]}
            self.pending = self._line(self.state)
            if not self.last or time.monotonic() - self.last >= INTERVAL:
                self.sync()

    def sync(self):
        """Write the last checkpoint into the journal after its bytes are on the disk; more may have been written."""
        if self.pending is None:
            return
        with self._telling():
            for file in self.files:
                safe_files.to_disk(file)
            self._write_journal(self.pending)
        self.pending, self.last = None, time.monotonic()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def finish(self, assemble):
        """Give the targets their names.

        `assemble(files, create)` may make the output from the parts, in the file that `create()` returns; then it
        returns true. Else the first part is the output.
        """
        self.sync()
        with self._telling():
            whole = []

            def create():
                self._remove(self.whole_path)
                whole.append(self._create(self.whole_path, self.target))
                self.files.append(whole[0])
                return whole[0]

            assembled = assemble(self.files[: len(self.paths)], create)
            for file in self.files:
                safe_files.to_disk(file)
                file.close()
            self._write_journal(self._line({**self.state, "whole": bool(assembled)}))
            self._rename(bool(assembled))
        self.discard()

    def _renames(self, whole):
        """(current name, target) of each file. The output is the last: it tells that everything is done."""
        pairs = [(self.paths[number], target) for number, target in self.others.items()]
        return [*pairs, (self.whole_path if whole else self.paths[0], self.target)]

    def _renames_are_due(self, whole):
        """Whether each file has its current name or already that of its target."""
        return all(os.path.lexists(path) or os.path.lexists(target) for path, target in self._renames(whole))

    def _rename(self, whole):
        for path, target in self._renames(whole):
            if os.path.lexists(path):
                if os.path.lexists(target) and not self.overwrite:
                    raise FileExistsError(None, f"{target} exists already; allow it with --overwrite")
                safe_files.publish(path, target)

    def _finish_renames(self, entry):
        """Do the renames of an interrupted run that had written everything."""
        self.done = self.state = entry
        self.last, self.finished = time.monotonic(), True
        with self._telling():
            self._rename(entry["whole"])
        self.discard()

    def _remove(self, *paths):
        safe_files.remove(*(path for path in paths if self._listed(path) in self.owned))

    def discard(self):
        """Remove the parts, and at the end the journal, which says to which run they belong."""
        self._close(self.files)
        self._remove(*self.paths, self.whole_path)
        if fcntl is None:
            self.close()  # Windows removes no open file
        self._remove(self.journal_path)
        self.close()

    def close(self):
        self._close([*self.files, self.journal])

    @staticmethod
    def _close(files):
        for file in files:
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()
