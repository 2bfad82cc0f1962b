"""What a notebook shows: a model as the table of `summary`, a report as its page. IPython asks `_repr_html_` for it."""

import html.parser
import re

from report_pages import HOSTILE, hostile

import fastbilstm
from fastbilstm.report import Report


class Shown(html.parser.HTMLParser):
    """The tags of a piece of HTML with their attributes, and the text of each."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.words = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


def test_a_model_is_its_summary():
    """All words of the text, in its order."""
    model, text = fastbilstm.sample_model(), []
    model.summary(text.append)
    wanted = re.sub(r"^[ -]+$", "", text[0], flags=re.MULTILINE).split()
    shown = Shown(model._repr_html_())
    assert " ".join(shown.words).split() == wanted
    assert [tag for tag, _ in shown.tags].count("tr") == 1 + 1 + len(model.layers)  # headings, the input, the layers


def test_names_from_a_file_are_text():
    shown = Shown(fastbilstm.load(hostile())._repr_html_())
    assert {tag for tag, _ in shown.tags} == {"table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert all(set(attributes) <= {"style"} for _, attributes in shown.tags)
    assert set(HOSTILE) <= {word.strip() for word in shown.words}


def test_a_report_is_its_page(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<p title="a">one & two</p>', encoding="utf-8")
    report = Report(True, (), (), None, str(page))
    ((tag, attributes),) = Shown(report._repr_html_()).tags
    assert tag == "iframe" and attributes["srcdoc"] == page.read_text() and "sandbox" in attributes
    page.unlink()
    assert report._repr_html_() is None


def test_report_knows_its_page(tmp_path):
    fastbilstm.sample_model().save(tmp_path / "model.fbl")
    target = tmp_path / "page.html"
    found = fastbilstm.report.report(tmp_path / "model.fbl", target, seconds=0.01)
    assert target.read_text("utf-8") in Shown(found._repr_html_()).tags[0][1]["srcdoc"]
