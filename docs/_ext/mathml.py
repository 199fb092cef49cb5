"""Writes mathematics as MathML, which browsers show by themselves: no script, no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def _mathml(node: nodes.math | nodes.math_block, as_block: bool) -> str:
    """Returns a formula as MathML, and its source where that cannot be read, with a warning."""
    try:
        return str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logger.warning("%s, in %r", error, node.astext(), location=node, type="math")
        return f"<code>{node.astext()}</code>"


def show_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Shows a formula within a line."""
    translator.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def show_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Shows a formula on lines of its own, which scroll where the page is narrow."""
    body = _mathml(node, as_block=True)
    translator.body.append(translator.starttag(node, "div", CLASS="math") + body + "</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the renderer."""
    app.add_html_math_renderer("mathml", (show_inline, None), (show_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
