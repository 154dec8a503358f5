"""The documentation site, built by `make docs` from the Markdown files and notebooks of this folder."""

from __future__ import annotations

import json
from typing import Any

from docutils.nodes import document
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

import xmodular

project = "xmodular"
author = "the xmodular contributors"
copyright = f"{author}; Apache-2.0"
version = release = xmodular.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

default_role = "literal"  # single backticks in docstrings, as in the Markdown pages
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "xmodular"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0f6674", "color-brand-content": "#0f6674"},
    "dark_css_variables": {"color-brand-primary": "#5cc8d7", "color-brand-content": "#5cc8d7"},
}
copybutton_prompt_text = "$ "

# Types stand in the signatures. What a function returns is prose here, also up to its first colon, and so is what a
# property is; napoleon would take that part for a type.
GoogleDocstring._consume_returns_section = lambda self, *_: [("", "", self._dedent(self._consume_to_next_section()))]
GoogleDocstring._consume_inline_attribute = lambda self: ("", self._dedent(self._consume_to_end()))


class NotebookParser(MystParser):
    """Notebooks as pages: text as it is, code with the outputs that are stored. Nothing is run here."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: document) -> None:
        super().parse("\n\n".join(map(_markdown, json.loads(inputstring)["cells"])), document)


def _markdown(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    printed = "".join(line for output in cell["outputs"] for line in output.get("text", ()))
    return f"```python\n{text}\n```" + (f"\n\n{{.printed}}\n```text\n{printed}\n```" if printed else "")


def setup(app: Sphinx) -> None:
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
