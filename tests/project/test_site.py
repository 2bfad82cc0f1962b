"""The documentation site: its menu holds every page, its API every public name, its links lead where files lie in it.

`make docs` builds it; what is built is looked at here, where it is there, and MkDocs is installed.
"""

import html.parser
import inspect
import posixpath
import re
from urllib.parse import unquote

import pytest
from paths import ROOT, TOOLS
from scripts import load_script

import fastbilstm
from fastbilstm import preprocessing

SITE = ROOT / "build" / "site"


@pytest.fixture(scope="module")
def hooks():
    return load_script(TOOLS / "site_hooks.py")


def entries(nav):
    """All pages of a menu, in its order."""
    found = []
    for entry in nav:
        (value,) = entry.values()
        found += entries(value) if isinstance(value, list) else [value]
    return found


def test_the_menu_holds_every_page_once(hooks):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    found = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    assert sorted(found) == sorted(map(hooks.place, hooks.pages()))


def test_api_holds_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    named = re.findall(r"^::: fastbilstm\.(\S+)$", page, re.MULTILINE)
    public = {name for name in fastbilstm.__all__ if not name.startswith("_") and name != "preprocessing"}
    assert public <= set(named) and len(named) == len(set(named))
    functions = {name for name in preprocessing.__all__ if callable(getattr(preprocessing, name))}
    assert {f"preprocessing.{name}" for name in functions} <= set(named)
    for name in named:  # each is there, and says what it is
        found = fastbilstm
        for part in name.split("."):
            found = getattr(found, part)
        assert inspect.getdoc(found)


def test_links_lead_where_files_lie_in_the_site(hooks):
    text = "[a](files-and-texts.md#x) [b](../README.md) ![c](figures/d.svg) [d](../fastbilstm/model.py) [e](https://x)"
    assert hooks.with_links(text, "docs/using.md") == (
        "[a](files-and-texts.md#x) [b](index.md) ![c](figures/d.svg) [d](source/fastbilstm/model.py.md) [e](https://x)"
    )
    assert hooks.with_links("[a](docs/using.md) [b](#c)", "README.md") == "[a](using.md) [b](#c)"
    assert hooks.with_links("[a](../../tools/x.py)", "docs/tutorials/t.md") == "[a](../source/tools/x.py.md)"
    fenced = "```python\nx = d[0](y)\n```"
    assert hooks.with_links(f"{fenced}\n[a](using.md)\n", "docs/a.md") == f"{fenced}\n[a](using.md)\n"


def test_every_source_that_is_linked_can_be_shown(hooks):
    for path, text in hooks.pages().items():
        for _, file in hooks.linked(text, path):
            assert (ROOT / file).is_file(), f"{path} links to {file}"
    assert "```" not in hooks.shown("setup.py") and "~~~~~~python\n" in hooks.shown("setup.py")


# ---- what was built -------------------------------------------------------------------------------------------------


class Links(html.parser.HTMLParser):
    """What a page refers to, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.add(value)
            if name in ("id", "name"):
                self.anchors.add(value)


@pytest.fixture(scope="module")
def built():
    """{path in the site: Links}."""
    pytest.importorskip("mkdocs", reason="needs MkDocs: make docs")
    if not (SITE / "index.html").exists():
        pytest.skip("the site is not built: make docs")
    return {path.relative_to(SITE).as_posix(): Links(path) for path in SITE.rglob("*.html") if path.name != "404.html"}


def test_every_link_of_the_site_leads_somewhere(built):
    assert len(built) > 40
    wrong = []
    for path, page in built.items():
        for link in page.links:
            if "://" in link or link.startswith(("mailto:", "data:")):
                continue
            target, _, anchor = unquote(link).partition("#")
            file = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
            good = (SITE / file).exists() and (not anchor or file not in built or anchor in built[file].anchors)
            wrong += [] if good else [f"{path}: {link}"]
    assert wrong == []


def test_nothing_is_fetched_from_elsewhere(built):
    for path in built:
        text = (SITE / path).read_text("utf-8")
        fetched = re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text)
        fetched += re.findall(r"<link[^>]*stylesheet[^>]*//", text)
        assert not fetched, path
