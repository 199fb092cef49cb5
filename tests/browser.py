"""Pages in headless Chromium: what its console says, whether they fit, and who can read them."""

import contextlib
import shutil

import pytest

WIDTHS = (400, 800, 1400)
SCHEMES = ("light", "dark")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

TOO_WIDE = """() => {
    const {scrollWidth, clientWidth} = document.documentElement
    return scrollWidth > clientWidth + 1 ? scrollWidth : 0
}"""


@contextlib.contextmanager
def chromium():
    """A browser; the test is skipped where there is none, or nothing that drives one."""
    driver = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]'")
    pytest.importorskip("axe_playwright_python", reason="pip install '.[browser]'")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def faults(browser, path, *, width, scheme, skip=(), quick=False):
    """What is wrong with a page, a line each: nothing, if it is as it should be.

    Its errors on the console; that it scrolls sideways; and what axe, a library of checks, finds
    against the levels A and AA of WCAG 2.2: contrast, alternative texts, names of controls. Parts
    that CSS selectors of `skip` name are like others that axe looks at; quickly, axe is left out.
    """
    found = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page.on("console", lambda said: found.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("requestfailed", lambda request: found.append(f"not loaded: {request.url}"))
        page.goto(path.as_uri())
        if wide := page.evaluate(TOO_WIDE):
            found.append(f"scrolls sideways: {wide} of {width} pixels")
        if not quick:
            found += _violations(page, skip)
    finally:
        page.close()
    return [f"{path.name} at {width}, {scheme}: {fault}" for fault in found]


def _violations(page, skip):
    from axe_playwright_python.sync_playwright import Axe

    context = {"exclude": [[selector] for selector in skip]} if skip else None
    options = {"runOnly": WCAG, "preload": False, "resultTypes": ["violations"]}
    for violation in Axe().run(page, context=context, options=options).response["violations"]:
        for node in violation["nodes"][:3]:
            yield f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
