"""Formulas of a page as MathML, which browsers draw by themselves: no script, no network.

    exporter = OfflineHTML(config=config); body, _ = exporter.from_notebook_node(notebook)
"""

from __future__ import annotations

import re
from typing import Any

from nbconvert import HTMLExporter
from nbconvert.exporters import TemplateExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from soupsieve import SelectorSyntaxError

__all__ = ["OfflineHTML", "mathml"]


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as a MathML element; one that cannot be read stays as it was written, escaped.

    display: "inline" or "block", as MathML has it.
    """
    from html import escape

    from latex2mathml.converter import convert

    try:
        return convert(latex, display=display)
    except Exception:  # its errors have no common class; a formula must not cost the page
        mark = "$$" if display == "block" else "$"
        return f"<code>{mark}{escape(latex)}{mark}</code>"


class _Renderer(IPythonRenderer):
    """nbconvert's renderer of Markdown, with formulas drawn at once."""

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return mathml(body)


class OfflineHTML(HTMLExporter):
    """nbconvert's HTML of a notebook that asks the network for nothing."""

    def __init__(self, **given: Any) -> None:
        nothing = dict.fromkeys(("mathjax_url", "require_js_url", "jquery_url", "mermaid_js_url"), "")
        super().__init__(embed_images=True, **nothing, **given)

    def from_notebook_node(self, nb: Any, resources: Any = None, **more: Any) -> Any:
        try:
            body, resources = super().from_notebook_node(nb, resources, **more)
        except SelectorSyntaxError:  # CPython before 3.11.5 errs on soupsieve 4's patterns: the page goes without tab stops, which come last
            body, resources = TemplateExporter.from_notebook_node(self, nb, self._init_resources(resources), **more)
        return re.sub(r"<script src=\"\">\s*</script>", "", body), resources  # what the template leaves of an absent address

    def default_filters(self) -> Any:
        yield from super().default_filters()
        yield "markdown2html", _markdown


def _markdown(source: str) -> str:
    """Markdown as nbconvert renders it; pictures lie in the outputs, so attachments and folders play no part."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)
