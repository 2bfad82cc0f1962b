"""`verify` says whether a model is right. `report` writes a page: graph, agreement, times and sizes.

report_file.py    `report`: measures and writes the page
agreement.py      compares outputs with Keras, the recorded vector and the specification
verify.py         the same as lines of text
verdict.py        the outcome in sentences
keras_speed.py    times of the installed Keras, in a process of its own
measure.py        times for sizes of batch and lengths, and the share of each layer
page.py           the page; graph_drawing.py and figures.py: its pictures, in SVG

May import: loading and what is below it.
"""

from .report_file import SECONDS, Report, report, run

__all__ = ["SECONDS", "Report", "report", "run"]
