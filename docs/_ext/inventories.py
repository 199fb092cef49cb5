"""Links the names of other projects to their sites, by lists that lie beside this file.

Each list names a site, and what we refer to of it: the kind, the name, and the page. Sphinx wants
an inventory of all that a site has, in a compressed file; these are made of the lists, so that the
site is built without a network.
"""

import pathlib
import zlib

from sphinx.application import Sphinx
from sphinx.config import Config

LISTS = pathlib.Path(__file__).parent.parent / "inventories"


def _inventory(project: str, lines: list[str]) -> bytes:
    """Returns an inventory in the second version of Sphinx's format."""
    header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    entries = []
    for line in lines:
        kind, name, page = line.split()
        entries.append(f"{name} py:{kind} 1 {page.replace('$', name)} -\n")
    return header.encode() + zlib.compress("".join(entries).encode())


def make(app: Sphinx, config: Config) -> None:
    """Writes an inventory for each list, and tells `sphinx.ext.intersphinx` of it."""
    folder = pathlib.Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(LISTS.glob("*.txt")):
        site, *lines = (
            line for line in path.read_text().splitlines() if line and not line.startswith("#")
        )
        target = folder / f"{path.stem}.inv"
        target.write_bytes(_inventory(path.stem, lines))
        config.intersphinx_mapping[path.stem] = (site, (str(target),))


def setup(app: Sphinx) -> dict[str, bool]:
    """Makes the inventories before anybody reads them."""
    app.connect("config-inited", make, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
