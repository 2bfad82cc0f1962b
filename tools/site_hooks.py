"""Hooks of MkDocs (mkdocs.yml): pages that lie outside docs/ join the site, and links lead where files lie in it.

A link to a source file leads to a page that shows the file, so that the site needs no address of a repository. Imports
the standard library; MkDocs and pymdownx inside the hooks, which run where these are.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Pages outside docs/, and what they are called in the site.
OTHERS = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benches/RESULTS.md": "benchmark-tables.md",
    "examples/README.md": "examples.md",
}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#\s])")
FENCE = re.compile(r"^(```.*?^```)$", re.DOTALL | re.MULTILINE)
# Code of 120 columns, and tables, have room.
STYLE = (
    ".md-grid{max-width:82rem}.md-typeset{font-size:.75rem}.md-typeset table:not([class]){font-size:.62rem}"
    ".md-typeset table:not([class]) :is(td,th){min-width:0;padding:.5em .8em}"
)
LANGUAGES = {".py": "python", ".pyx": "cython", ".pxi": "cython", ".pxd": "cython", ".h": "c", ".c": "c", ".md": "md"}


def place(path):
    """Where a file of the repository lies in the site."""
    if path in OTHERS:
        return OTHERS[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"


def linked(text, path):
    """[(link, file)] of the links of a page to other files; both as paths from the root of the repository."""
    prose = "".join(FENCE.split(text)[::2])
    found = [link for link in LINK.findall(prose) if "://" not in link]
    return [(link, posixpath.normpath(posixpath.join(posixpath.dirname(path), link))) for link in found]


def with_links(text, path):
    """The text of the page with its links as they are in the site."""
    here = posixpath.dirname(place(path)) or "."
    targets = {link: posixpath.relpath(place(file), here) for link, file in linked(text, path)}
    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(lambda match: targets.get(match[1], match[1]), part) for part in parts[::2]]
    return "".join(parts)


def shown(path):
    """A page that shows a source file; the search leaves it out."""
    language = LANGUAGES.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text("utf-8")
    return f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n~~~~~~{language}\n{text}~~~~~~\n"


def pages():
    """{path in the repository: text} of all pages of the site but those that show sources."""
    paths = [*OTHERS, *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))]
    return {path: (ROOT / path).read_text("utf-8") for path in paths}


# ---- the hooks ------------------------------------------------------------------------------------------------------


def on_config(config):
    from pymdownx import slugs

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugs.slugify(case="lower")  # as GitHub makes anchors
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    found = pages()
    sources = {file for path, text in found.items() for _, file in linked(text, path)}
    files.append(File.generated(config, "site.css", content=STYLE))
    for path in OTHERS:
        files.append(File.generated(config, OTHERS[path], content=with_links(found[path], path)))
    for path in sorted(sources - set(found)):
        if not path.startswith("docs/"):
            files.append(File.generated(config, place(path), content=shown(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    if page.file.generated_by is not None:  # an OTHER, which is done, or a source
        return markdown
    return with_links(markdown, f"docs/{page.file.src_uri}")
