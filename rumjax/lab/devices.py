"""The devices of a process, which are settled before JAX looks at them."""

import contextlib
import os
import pathlib

from rumjax.errors import InvalidInputError, check_count

MOST_DEVICES = 1024
"""Devices that a CPU is split into, at most."""

CORES = "RUMJAX_CORES"
"""The environment variable that names the cores of a worker, "0,1" for instance, where several
share a CPU."""


def settle(devices: int, *, only_cpu: bool = False) -> None:
    """Splits the CPU into so many devices, and keeps compiled programs from one run to the next.

    What was settled earlier, in this process or in the environment, stays: programs are kept in
    JAX_COMPILATION_CACHE_DIR, else in rumjax's own folder below ~/.cache.

    Args:
      devices: of the CPU.
      only_cpu: whether accelerators are left to other processes.

    Raises:
      InvalidInputError: fewer than one device.
    """
    if check_count("--cpu_devices", devices) > MOST_DEVICES:
        raise InvalidInputError(f"--cpu_devices: wanted at most {MOST_DEVICES}, got {devices}")
    import jax

    with contextlib.suppress(RuntimeError):  # JAX has looked at its devices already
        jax.config.update("jax_num_cpu_devices", devices)
    if only_cpu:
        jax.config.update("jax_platforms", "cpu")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with contextlib.suppress(RuntimeError):  # there is no home
            home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
            jax.config.update("jax_compilation_cache_dir", str(home / "rumjax"))


def settle_worker() -> None:
    """Settles a worker: of a CPU, each core that it may use is a device, or as many as are said.

    It keeps to its cores only once JAX has made its threads. JAX shares sums out to as many as
    there are cores, which decides their last bits: they are to be those of any other process.
    """
    import jax

    named = os.environ.get(CORES, "")
    cores = set(map(int, named.split(","))) if named else os.sched_getaffinity(0)
    said = os.environ.get("JAX_NUM_CPU_DEVICES")
    settle(int(said or min(len(cores), MOST_DEVICES)))
    jax.local_devices()
    if named:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # it has ended
                os.sched_setaffinity(int(thread), cores)
