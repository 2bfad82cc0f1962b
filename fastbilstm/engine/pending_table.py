"""When the projections of embeddings are put into a table: not before so many tokens were read that it pays.

Imports the locks of threads.py; what makes the table is given.
"""

from .threads import fork_safe_lock

# A table of projected embeddings is made when so large a part of its rows was read as tokens. Until then predictions
# are not recorded. It takes as long as to project as many tokens as it has rows: some 40 ms at most, within 64 MiB.
TABLE_PAYS = 1 / 8


class PendingTable:
    """Counts the tokens that a layer reads. A process that predicts once never waits for a table.

    `is_pending` until the table is there, so that a tape that is recorded afterwards reads it.
    """

    def __init__(self, rows):
        self.tokens_to_read, self.is_pending, self.lock = rows * TABLE_PAYS, True, fork_safe_lock()

    def read(self, count, make):
        """Call `make()` if the table pays from now on. Another thread that reads meanwhile goes on without it."""
        if not self.is_pending:
            return
        self.tokens_to_read -= count
        if self.tokens_to_read < 0 and self.lock.acquire(blocking=False):
            try:
                if self.is_pending:
                    make()
                    self.is_pending = False
            finally:
                self.lock.release()
