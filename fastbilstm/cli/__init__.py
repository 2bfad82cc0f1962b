"""The command `fastbilstm`: options in, calls of the package, text and exit codes out.

commands.py   convert, inspect, verify, report and the parser; predict.py: predict

May import everything.
"""

from .commands import main

__all__ = ["main"]
