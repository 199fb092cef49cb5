"""Devices to compile for, at hand or not: TPU topologies, an H100, or those of this machine."""

import importlib.util
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab.estimates import CHIPS, Chip

TOPOLOGIES = ("v2:2x2", "v3:2x2", "v4:2x2x1", "v4:2x2x4", "v5e:2x4", "v5p:2x2x1", "v6e:2x4")
"""Some that work, for messages; the first part is the kind of chip, the second its arrangement."""
DEVICES = ("h100",)
"""Kinds of GPU that programs can be compiled for without one."""

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978434048
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""The description by which XLA compiles for an H100 that is not there."""


class Target(NamedTuple):
    """The devices that a plan is for."""

    name: str
    """as it was asked for; "here" for the devices at hand"""
    devices: tuple[Any, ...]
    local: int
    """devices of the first host, which makes all models but those of the bank"""
    hosts: int
    platform: str
    """"cpu", "tpu" or "gpu" """
    chip: Chip | None
    """None where nothing is known of it"""

    @property
    def is_here(self) -> bool:
        """Says whether the devices are at hand."""
        return self.name == "here"


def prepare(
    topology: str | None, device: str | None, environment: MutableMapping[str, str]
) -> None:
    """Sets the variables that compiling for absent devices needs, before JAX starts.

    Raises:
      InvalidInputError: an unknown kind of device or topology, both of them, or the compiler for it
        is not installed.
    """
    if topology is not None and device is not None:
        raise InvalidInputError("--topology and --device: give one of them")
    if topology is not None:
        kind, _, shape = topology.partition(":")
        if kind not in CHIPS or kind in DEVICES or not shape:
            raise InvalidInputError(_unknown(topology))
        if not is_installed("libtpu"):
            raise InvalidInputError(
                "--topology: the compiler for TPUs is not installed: pip install 'rumjax[plan]' "
                "(no TPU is needed)"
            )
        environment.setdefault("TPU_SKIP_MDS_QUERY", "1")
        environment.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        environment["JAX_PLATFORMS"] = "cpu"
    if device is not None:
        check_choice("--device", device, DEVICES)
        if not is_installed("jax_plugins.xla_cuda13"):
            raise InvalidInputError(
                "--device: the compiler for NVIDIA's GPUs is not installed: pip install "
                "'jax[cuda13]' (no GPU is needed)"
            )
        environment["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
        environment["JAX_PLATFORMS"] = "cpu"
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()


def is_installed(name: str) -> bool:
    """Says whether there is a module, without importing it.

    Examples:
      >>> is_installed("nowhere.at_all")
      False
    """
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _unknown(topology: str) -> str:
    return (
        f"--topology: unknown topology {topology!r}; there are {', '.join(TOPOLOGIES)} for "
        "example, and larger ones"
    )


def find(topology: str | None, device: str | None) -> Target:
    """Returns the devices that were asked for, or those at hand.

    Raises:
      InvalidInputError: the compiler does not know the topology, or gave up on the device.
    """
    import jax
    from jax.experimental import topologies

    if topology is None and device is None:
        at_hand = tuple(jax.local_devices())
        platform = at_hand[0].platform
        return Target("here", at_hand, len(at_hand), 1, platform, None)
    try:
        if topology is not None:
            described: Any = topologies.get_topology_desc(topology_name=topology, platform="tpu")
        else:
            described = topologies.get_topology_desc(
                topology_name="1x1x1", platform="cuda", topology="1x1x1", target_config=H100
            )
    except Exception as error:  # the plugins have errors of their own
        if topology is not None:
            first = str(error).splitlines()[0][:200]
            raise InvalidInputError(f"{_unknown(topology)} ({first})") from error
        raise InvalidInputError(f"--device: JAX cannot compile for {device}: {error}") from error
    devices = tuple(described.devices)
    processes = [one.process_index for one in devices]
    name = topology or str(device)
    platform = "gpu" if topology is None else "tpu"
    chip = CHIPS[name.partition(":")[0]]
    return Target(
        name, devices, processes.count(min(processes)), len(set(processes)), platform, chip
    )
