"""Leaves the commands, a script and the fixtures of tests out of the doctests."""

collect_ignore_glob = [
    "rumjax/configs/*",
    "rumjax/launch.py",
    "rumjax/publish.py",
    "rumjax/tune.py",
    "rumjax/data/embedded/generate.py",
    "tests/*conftest.py",
]
