"""StandardOutput: answers go to standard output as they come. It has the methods of `Partial`, which writes a file.

Nothing can be resumed or taken back: what was written before an error stays. Standard library only.
"""

import sys

from .. import safe_files
from ..errors import FastBiLSTMError


class StandardOutput:
    """`errors`: the file of the bad rows, the second part, which is complete or absent; or None."""

    can_resume, done, finished, last = False, None, False, 0.0

    def __init__(self, errors=None):
        if sys.stdout is None:
            raise FastBiLSTMError("-: there is no standard output")
        self.errors, self.file = errors, None
        if errors is not None:
            try:
                self.file = safe_files.create_temporary(errors)
            except OSError as error:
                raise self._unwritable(errors, error) from error

    @staticmethod
    def _unwritable(name, error):
        return FastBiLSTMError(f"{name}: cannot be written ({error.strerror or error})")

    def append(self, pieces):
        try:
            sys.stdout.buffer.write(pieces[0])
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise  # who reads has enough
        except OSError as error:
            raise self._unwritable("standard output", error) from error
        if self.file is not None:
            try:
                self.file.write(pieces[1])
            except OSError as error:
                raise self._unwritable(self.errors, error) from error

    def checkpoint(self, state):
        pass

    def finish(self, assemble):
        if self.file is None:
            return
        try:
            safe_files.to_disk(self.file)
            self.file.close()
            safe_files.publish(self.file.name, self.errors)
        except OSError as error:
            raise self._unwritable(self.errors, error) from error

    def discard(self):
        if self.file is not None:
            self.file.close()
            safe_files.remove(self.file.name)
