"""The site of docs/, once it is built: what it has, what it links, and how it looks in a browser.

sphinx-build -W -n -b html docs site && RUMJAX_SITE=site python -m pytest tests/docs
"""

import html.parser
import os
import pathlib
import urllib.parse
import zlib

import pytest

import rumjax
from tests.browser import chromium, faults
from tests.test_examples import ROOMS, SHOWN_ELSEWHERE, public

TWO_CLICKS = {
    "how to unlearn from one's own checkpoint": "notebooks/own_model.html",
    "how to add an algorithm": "notebooks/algorithm.html",
    "what ToW means": "measures.html#tug-of-war-tow",
    "what it costs on a TPU": "scale.html#what-it-costs-on-a-tpu",
}


class Page(html.parser.HTMLParser):
    """What a page links, in its text and elsewhere, its places, and its images without a text."""

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.ids, self.silent = path, [], {""}, []
        self.text_begins = self.text_ends = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "article":
            self.text_begins = len(self.links)
        self.ids.update(attributes[name] for name in ("id", "name") if attributes.get(name))
        self.links += [attributes[name] for name in ("href", "src") if attributes.get(name)]
        if tag == "img" and not attributes.get("alt"):
            self.silent.append(attributes.get("src"))

    def handle_endtag(self, tag):
        if tag == "article":
            self.text_ends = len(self.links)

    def targets(self, *, of_text=False):
        """Files and anchors of this site that the page links, or its text alone, not the menus."""
        for link in self.links[self.text_begins : self.text_ends] if of_text else self.links:
            parts = urllib.parse.urlsplit(link)
            if not parts.scheme and not parts.netloc:
                path = self.path.parent / urllib.parse.unquote(parts.path)
                target = path.resolve() if parts.path else self.path
                yield link, target, urllib.parse.unquote(parts.fragment)


@pytest.fixture(scope="module")
def site():
    if "RUMJAX_SITE" not in os.environ:
        pytest.skip("RUMJAX_SITE names no site that was built")
    return pathlib.Path(os.environ["RUMJAX_SITE"]).resolve()


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path, but for the code, whose links back are not shown."""
    code = site / "_modules"
    paths = sorted(path for path in site.rglob("*.html") if code not in path.parents)
    return {path: Page(path) for path in paths}


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1400, "dark")])
def test_every_page_fits_and_can_be_read(width, scheme, site, pages):
    # Pages of single names are made alike, and so are rows of a table: a few stand for all.
    apart = {site / "_static", site / "reference" / "generated"}
    some = sorted((site / "reference" / "generated").glob("rumjax.s*.html"))[:6]
    seen = [path for path in pages if path in some or not apart & set(path.parents)]
    skip = ("math", "tbody tr:nth-child(n+5)", "table.genindextable", "table.modindextable")
    with chromium() as browser:
        wrong = [
            fault
            for path in seen
            for fault in (
                *faults(browser, path, width=width, scheme=scheme, skip=skip),
                *faults(browser, path, width=800, scheme=scheme, quick=True),
            )
        ]
    assert not wrong, "\n".join(wrong)


def documented(site):
    """The page of every name that the reference explains, from the site's own inventory."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]  # after four lines of a header
    entries = (line.split(" ", 4) for line in zlib.decompress(lines).decode().splitlines())
    return {
        name: address.replace("$", name).split("#")[0]
        for name, kind, _, address, _ in entries
        if kind.startswith("py:")
    }


def test_every_public_name_has_a_page_with_an_example(site):
    addresses = documented(site)
    lacking = [name for name in rumjax.__all__ if _page_of(addresses, "rumjax", name) is None]
    for room in ROOMS:
        for name, value in public(room):
            page = _page_of(addresses, room, name)
            error = isinstance(value, type) and issubclass(value, Exception)
            shown = error or name in SHOWN_ELSEWHERE
            text = (site / page).read_text(encoding="utf-8") if page else ""
            if not page or ("&gt;&gt;&gt;" not in text and not shown):
                lacking.append(f"{room}.{name}")
    assert not lacking


def _page_of(addresses, room, name):
    """The page of a name that may be documented where `rumjax` exports it."""
    module = f"{room}.{name}"
    homes = (module, f"rumjax.{name}", f"rumjax.unlearn.{name}")
    return next((addresses[home] for home in homes if home in addresses), None)


def test_no_link_leads_nowhere(pages):
    broken = []
    for path, page in pages.items():
        for link, target, fragment in page.targets():
            if not target.exists():
                broken.append(f"{path.name}: {link}")
            elif fragment and target in pages and fragment not in pages[target].ids:
                broken.append(f"{path.name}: {link}, no such place on the page")
    assert not broken


def test_every_image_has_a_text(pages):
    assert not {path.name: page.silent for path, page in pages.items() if page.silent}


@pytest.mark.parametrize("question", TWO_CLICKS)
def test_a_stranger_finds_it_within_two_clicks(question, site, pages):
    path, _, anchor = TWO_CLICKS[question].partition("#")
    wanted = (site / path, anchor)
    assert anchor in pages[site / path].ids
    first = {target[1:] for target in pages[site / "index.html"].targets(of_text=True)}
    second = {
        target[1:]
        for page in {page for page, _ in first} & set(pages)
        for target in pages[page].targets(of_text=True)
    }
    assert wanted in first | second
