"""Leaves out of the doctests what is no library: the lab, the commands, and a script."""

collect_ignore_glob = [
    "rumjax/lab/*",
    "rumjax/configs/*",
    "rumjax/launch.py",
    "rumjax/publish.py",
    "rumjax/tune.py",
    "rumjax/data/embedded/generate.py",
]
