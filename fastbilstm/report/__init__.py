"""What is told of a model: whether it is right (`verify`), and a page with graph, agreement, time and size (`report`).

report_file.py    `report`: measures and writes the page
agreement.py      outputs beside Keras, the recorded vector and the specification; verify.py: the same as lines of text
measure.py        time against batch and length, the share of each layer
page.py           the page; graph_drawing.py and figures.py: its pictures, in SVG

May import: loading and what is below it.
"""

from .report_file import SECONDS, Report, report, run

__all__ = ["SECONDS", "Report", "report", "run"]
