"""The progress of `fastbilstm predict`: rows, rate and time left. It goes to standard error, never to standard output.

On a terminal one line is renewed; elsewhere (a log, a batch system) there is a line a minute. Imports the standard
library.
"""

import sys
import time

# Seconds between two looks at the line of a terminal, and between two lines elsewhere.
_RENEWED, LINE_SECONDS = 0.2, 60.0


class Progress:
    """Shows the progress of a run whose first `rows` rows were done before it began.

    `reader`: what is read; its `total` and `position()` tell how much is left.
    """

    def __init__(self, reader, rows, quiet):
        self.reader, self.before, self.begun, self.shown = reader, rows, time.monotonic(), 0.0
        self.quiet, self.live = quiet, not quiet and sys.stderr.isatty()
        if not self.live:
            self.shown = self.begun
        self.width = 0

    def update(self, rows):
        now = time.monotonic()
        if self.quiet or now - self.shown < (_RENEWED if self.live else LINE_SECONDS):
            return
        self.shown, seconds = now, max(now - self.begun, 1e-9)
        rate, part = (rows - self.before) / seconds, self.reader.position()
        total = self.reader.total or (rows / part if part else rows)
        left = max(0.0, total - rows) / rate if rate else 0.0
        text = f"{rows:,} rows, {100 * min(1.0, rows / max(1, total)):.0f} %, {rate:,.0f} rows/s, {_time(left)} left"
        if self.reader.total is None and not part:  # standard input
            text = f"{rows:,} rows, {rate:,.0f} rows/s"
        self._show(text)

    def end(self, rows=None):
        if not self.live:
            return
        if rows is not None:
            seconds = max(time.monotonic() - self.begun, 1e-9)
            self._show(f"{rows:,} rows in {_time(seconds)}, {(rows - self.before) / seconds:,.0f} rows/s")
        if self.width:
            print(file=sys.stderr)

    def _show(self, text):
        if not self.live:
            print(f"fastbilstm: {text}", file=sys.stderr, flush=True)
            return
        print(f"\r{text:<{self.width}}", end="", file=sys.stderr, flush=True)
        self.width = len(text)


def _time(seconds):
    minutes, seconds = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:02.0f}" if hours else f"{minutes}:{seconds:04.1f}"
