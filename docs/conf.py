"""Configuration of the site: `sphinx-build -W -n -b html docs site` builds it, offline."""

import importlib
import os
import pathlib
import re
import sys
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.autosummary import autosummary_toc

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ["JUPYTER_PATH"] = str(HERE / "_jupyter")  # a kernel on the CPU that logs errors alone

import rumjax


def exported() -> set[tuple[str, str]]:
    """Returns what rooms of the library have and `rumjax` exports itself, as (room, name)."""
    rooms = (HERE / "reference" / "index.md").read_text().split("rumjax.")[1:]
    found = set()
    for room in (f"rumjax.{words.split()[0]}" for words in rooms):
        module = importlib.import_module(room)
        for name in rumjax.__all__:
            if getattr(module, name, None) is getattr(rumjax, name):
                found.add((room, name))
    return found


project = "rumjax"
author = "The rumjax authors"
copyright = "The rumjax authors, Apache 2.0"
release = version = rumjax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "docstrings",
    "inventories",
    "mathml",
]
exclude_patterns = ["_*", "studies/**/tables", "studies/tables"]
templates_path = ["_templates"]
html_static_path = ["_static"]

# Pages, and notebooks, which are executed anew by every build.
myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
html_math_renderer = "mathml"

# The reference: a page for each public name, from its docstring.
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_context = {"exported": exported()}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "code"
suppress_warnings = ["autosummary.import_cycle"]  # rooms list names of `rumjax` too
nitpick_ignore_regex = [
    # Signatures name what has no page: variables for a type, records of an algorithm, internals.
    # So a class that is misspelt in one of these modules is not seen.
    ("py:class", r"rumjax\..*\.(Curve|Entry|Factory|Item|Record|Results|Tree)"),
    ("py:class", r"rumjax\.(audits|data|lab|models|unlearn)\.\w+\.\w+"),
    ("py:(class|obj)", r"rumjax\.types\.State"),
    (
        "py:class",
        r"(flax\.core|flax\.linen\.module|jax\._src|jaxlib|numpy\._typing|optax\._src)\..*",
    ),
    ("py:class", r"tuple\[int|ml_collections\..*|rich\..*"),
]
python_use_unqualified_type_names = True
viewcode_line_numbers = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The looks.
html_theme = "furo"
html_title = f"rumjax {release}"
html_css_files = ["rumjax.css"]


def link_pages(app: Sphinx, path: pathlib.Path, page: str, text: list[str]) -> None:
    """Makes the links of a file from outside of docs/ lead to pages of the site."""
    pages = {
        file.parent.joinpath(included[1]).resolve(): file.name
        for file in HERE.glob("*.md")
        if (included := re.match(r"```\{include\} (\S+)\n```$", file.read_text().strip()))
    }

    def on_the_site(link: re.Match[str]) -> str:
        target = HERE.joinpath(path).resolve().parent.joinpath(link[1]).resolve()
        if target.is_relative_to(HERE):
            return f"]({target.relative_to(HERE)}"
        return f"]({pages.get(target, link[1])}"

    text[0] = re.sub(r"\]\(([\w./-]+)", on_the_site, text[0])


def leave_out_of_the_menu(app: Sphinx, doctree: nodes.document) -> None:
    """Keeps the pages of single names out of the menu, which every page carries."""
    if app.env.docname.startswith(("reference/generated/", "reference/lab")):
        for node in list(doctree.findall(autosummary_toc)):
            node.parent.remove(node)


def mend_for_keyboards(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Lets keyboards reach what scrolls, and gives the headings of the menu a level."""
    scrolls = r'<(pre|div(?= class="(?:table-wrapper|math)\b))'
    context["body"] = re.sub(scrolls, r'<\1 tabindex="0"', context.get("body", ""))
    if "furo_navigation_tree" in context:
        context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(
            'role="heading"', 'role="heading" aria-level="2"'
        )


def setup(app: Sphinx) -> None:
    """Connects the above; with `-t quick`, leaves out the reference and what notebooks print."""
    app.connect("include-read", link_pages)
    app.connect("doctree-read", leave_out_of_the_menu, priority=100)
    app.connect("html-page-context", mend_for_keyboards, priority=900)
    if app.tags.has("quick"):
        app.config.nb_execution_mode = "off"
        app.config.autosummary_generate = False
        app.config.exclude_patterns += ["reference"]
