"""The command `fastbilstm`: options in, calls of the package, text and exit codes out.

commands.py   convert, inspect, verify, report and the parser
predict.py    predict: its options and --text; file_job.py runs files, progress.py tells how far

May import everything.
"""

from .commands import main

__all__ = ["main"]
