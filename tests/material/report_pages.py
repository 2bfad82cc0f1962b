"""The pages of `fastbilstm report` taken apart for tests, and what holds for every one of them."""

import html.parser
import re
from itertools import pairwise
from pathlib import Path

from built_nets import Net

from fastbilstm.report import figures as report_figures
from fastbilstm.report.report_file import report

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title></style><b onclick='x'>&amp;]]>")


def hostile():
    """A file whose layers have names that are HTML."""
    net = Net()
    net.add("Dropout", HOSTILE[0], "x", rate=0.5)
    net.add("Activation", HOSTILE[1], HOSTILE[0], activation="relu")
    net.add("Activation", HOSTILE[2], HOSTILE[1], activation="tanh")
    net.lstm("lstm", HOSTILE[2])
    return net.content("lstm")


class Page(html.parser.HTMLParser):
    """A page taken apart: every tag with its attributes, the text of each, and the figures."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.text = Path(path).read_text(encoding="utf-8")
        self.open, self.tags, self.figures, self.words = [], [], [], []
        self.feed(self.text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "figure":
            self.figures.append({"marks": [], "cells": [], "title": ""})

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words.append(data)
        if "figure" not in self.open:
            return
        if self.open[-1] == "title":
            self.figures[-1]["marks"].append(data)
        elif self.open[-1] in ("td", "th"):
            self.figures[-1]["cells"].append(data)
        elif self.open[-1] == "h4":
            self.figures[-1]["title"] += data

    def figure(self, start):
        (found,) = [figure for figure in self.figures if figure["title"].startswith(start)]
        return found


def check_self_contained(page):
    """Nothing on the page can load, run or lead anywhere."""
    known = set("html head meta title style body main section h1 h2 h3 h4 p ul li dl dt dd div span i code".split())
    known |= set("table thead tbody tr th td figure figcaption details summary".split())
    known |= set("svg g path rect circle polyline text tspan".split())
    assert {tag for tag, _ in page.tags} <= known
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and name not in ("src", "href", "srcset", "action", "xlink:href", "style")
            assert "//" not in value and "url(" not in value and "javascript:" not in value, (tag, name, value)
    (style,) = re.findall("<style>(.*?)</style>", page.text, re.DOTALL)
    assert not re.search(r"url\(|@import|expression\(|//|\\", style)
    policies = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def check_accessible(page):
    assert ("html", {"lang": "en"}) in page.tags
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert drawings and all(attributes["role"] == "img" for attributes in drawings)
    assert page.text.count("<svg") == len(re.findall(r"<svg[^>]*><title>[^<]+</title>", page.text))
    levels = [int(tag[1]) for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(b - a <= 2 for a, b in pairwise(levels))


def check_numbers(page, found, backend):
    """Every number that was measured is in the drawing of its figure and in the table below it."""
    ms = lambda seconds: report_figures.number(1e3 * seconds)  # noqa: E731
    for timing in (*found.speed.batches, *found.speed.lengths):
        of_batch = timing in found.speed.batches
        start = "Time against batch" if of_batch else f"Time against length, batch {timing.batch}"
        threads = backend if backend != "vector" else f"{timing.threads} thread{'s' * (timing.threads > 1)}"
        figure, x = page.figure(start), timing.batch if of_batch else timing.length
        median, low, high = ms(timing.seconds), ms(timing.low), ms(timing.high)
        assert f"{threads}, {x}: {median} ({low} to {high})" in figure["marks"]
        row = figure["cells"].index(f"{x}, {threads}")
        expected = [median, low, high, f"{timing.batch / timing.seconds:,.0f}", str(timing.calls)]
        assert figure["cells"][row + 1 : row + 6] == expected
    totals = {}
    for share in found.speed.shares:
        for batch, seconds in share.seconds.items():
            totals[batch] = totals.get(batch, 0.0) + seconds
    for share in found.speed.shares:
        figure = page.figure("Share of each layer")
        name = " / ".join(share.path) + (f" with {', '.join(share.together)}" if share.together else "")
        cells = figure["cells"][figure["cells"].index(name) + 1 :]
        for k, (batch, seconds) in enumerate(share.seconds.items()):
            part = f"{100 * seconds / totals[batch]:.1f} %"
            assert cells[2 * k : 2 * k + 2] == [ms(seconds), part]
            if len(found.speed.shares) <= report_figures.MOST_BARS:
                assert f"{name}, batch {batch}: {ms(seconds)} ms, {part}" in figure["marks"]
    for one in found.agreements:
        figure = page.figure(f"Errors against {one.reference}")
        assert figure["cells"][2:4] == ["equal", f"{one.equal:,}"]
        for low, high, count in zip(one.edges, one.edges[1:], one.counts):
            name = f"{report_figures.number(low)} to {report_figures.number(high)}"
            assert figure["cells"][figure["cells"].index(name) + 1] == f"{count:,}"
            assert not count or f"{name}: {count:,}" in figure["marks"]


def made(path, target, seconds=0.3, **options):
    """The page of a model, taken apart, and the Report; checks all that holds for every page."""
    found = report(path, target, seconds=seconds, **options)
    page = Page(target)
    check_self_contained(page)
    check_accessible(page)
    check_numbers(page, found, re.search(r"backend (\w+)", page.text)[1])
    assert str(Path(target).parent) not in page.text
    return page, found
