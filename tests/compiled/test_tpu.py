"""What the TPU's compiler says of rumjax's programs; no TPU is needed, but libtpu, jax[tpu], is.

Cycles are the compiler's estimates. Those of `cycles.json` were recorded with one version of
libtpu, and others are not compared; RUMJAX_RECORD=1 records them anew.
"""

import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import threading

import jax
import jax.numpy as jnp
import pytest

from rumjax import ensemble, models
from rumjax.data import augmentation
from rumjax.data.shapes import shaped
from rumjax.ensemble.arranging import SIDE_BY_SIDE
from rumjax.lab import compiling, experiment, planning
from rumjax.lab.answers import reader
from rumjax.lab.compiling import Request
from rumjax.lab.config import read
from rumjax.lab.estimates import CHIPS, step_cycles
from rumjax.lab.informing import blank
from rumjax.lab.options import names_of
from rumjax.launch import configuration
from rumjax.types import Dataset, Subset, Task
from rumjax.unlearn import ALGORITHMS, Step

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason="the TPU's compiler is not installed; pip install 'rumjax[plan]'",
    ),
    pytest.mark.usefixtures("full_optimization"),
]
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

RECORDED = pathlib.Path(__file__).parent / "cycles.json"
IMAGES, SEEN, FORGOTTEN = 60_000, 35_000, 3_000
SHAPE = jax.ShapeDtypeStruct
ALWAYS = {"finetune", "neggrad_plus", "salun"}
"""unlearners that are compiled each time; others take long, or have the steps of one of these"""
STARTING = {
    *("amun", "boundary_shrink", "localized_reset", "msg", "salun", "sfr_on", "sharp_minmax"),
    "unsir",
}
"""unlearners that look at examples before their epochs; those that work at once do it in one"""


def devices(topology):
    from jax.experimental import topologies

    described = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    return tuple(described.devices[:1])


def unlearner_of(name, model, augmented):
    """An algorithm, or training, with the options that shapes depend on."""
    factory = ALGORITHMS[name]
    offered = {
        "batch_size": 256 if model.module.__class__.__name__ != "Cnn" else 128,
        "augmentation": augmentation(augmented),
        "num_classes": model.num_classes,
    }
    names = names_of(factory)
    options = {option: value for option, value in offered.items() if option in names}
    if name == "retrain":
        options["epochs"] = 30
    return factory(model, **options)


@functools.cache
def compiled(topology, network, algorithm, phase, per_device, augmented="none", side=32):
    """The text of a program of a bank, for one device, and its footprint."""
    half = network != "cnn"
    model = models.build(network, 200 if side == 64 else 10, mean=[0.5] * 3, bfloat16=half)
    data = Dataset(SHAPE((IMAGES, side, side, 3), jnp.uint8), SHAPE((IMAGES,), jnp.int32))
    forget = 0 if algorithm == "retrain" else FORGOTTEN
    parts = [Subset(SHAPE((1, size), jnp.int32), SHAPE((), jnp.int32)) for size in (forget, SEEN)]

    def one(tree):
        return jax.tree.map(lambda leaf: SHAPE((1, *jnp.shape(leaf)), jnp.result_type(leaf)), tree)

    step = Step("step", unlearner_of(algorithm, model, augmented), Task(*parts))
    (step,) = blank([step], IMAGES, model.num_classes)
    variables = None if algorithm == "retrain" else one(model.signature(data.images).variables)
    key = SHAPE((1,), jax.random.key(0).dtype)
    work = ensemble.Work(["model"], key, [step._replace(unlearner=one(step.unlearner))], variables)
    target = devices(topology)
    within = ensemble.within_device(work, data, "tpu")
    assert within == ("vmap" if network == "cnn" else "map")
    lowered = ensemble.lower(
        work, data, read=reader(model), devices=target, per_device=per_device, within=within
    )
    program = lowered["read" if phase == "read" else f"step: {phase}"].compile()
    return program.as_text(), ensemble.arranging.footprint(program)


def check(text, footprint, *, topology, batch, models=1):
    """No model has data of its own, images are not taken in turn, and nothing is computed twice."""
    assert footprint.total < CHIPS[topology.partition(":")[0]].hbm
    assert footprint.recomputed == 0
    assert not re.search(rf"u8\[{models},{IMAGES},", text) or models == 1
    turns = {int(number) for number in re.findall(r'"known_trip_count":\{"n":"?(\d+)', text)}
    assert not turns & {batch, batch * models}
    assert not re.search(r"all-reduce|all-gather|all-to-all|collective-permute", text)
    assert " f64[" not in text


def check_cycles(name, text):
    """A step takes at most 5 % more estimated cycles than when they were recorded."""
    version = importlib.metadata.version("libtpu")
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    cycles = step_cycles(text)
    assert cycles
    if os.environ.get("RUMJAX_RECORD"):
        known = recorded.get("cycles", {}) if recorded.get("libtpu") == version else {}
        both = {"libtpu": version, "cycles": dict(sorted({**known, name: cycles}.items()))}
        RECORDED.write_text(json.dumps(both, indent=2) + "\n")
        return
    if recorded.get("libtpu") != version:
        pytest.skip(f"cycles are of libtpu {recorded.get('libtpu')}, this is {version}")
    assert cycles <= 1.05 * recorded["cycles"][name], "a step takes longer; see BENCHMARKS.md"


@pytest.mark.parametrize(
    "topology",
    [
        "v5e:2x2",
        *(pytest.param(name, marks=pytest.mark.lengthy) for name in ("v6e:2x2", "v4:2x2x1")),
    ],
)
def test_a_bank_of_small_networks(topology):
    text, footprint = compiled(topology, "cnn", "retrain", "epoch", SIDE_BY_SIDE)
    check(text, footprint, topology=topology, batch=128, models=SIDE_BY_SIDE)
    check_cycles(f"cnn {topology}", text)


@pytest.mark.parametrize("phase", ["start", pytest.param("read", marks=pytest.mark.lengthy)])
def test_what_is_done_once_for_a_small_network(phase):
    text, footprint = compiled("v5e:2x2", "cnn", "retrain", phase, SIDE_BY_SIDE)
    check(text, footprint, topology="v5e:2x2", batch=512, models=SIDE_BY_SIDE)


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(name, marks=[] if name in ALWAYS else [pytest.mark.lengthy])
        for name in sorted({*ALGORITHMS} - {"retrain", "original"})
    ],
)
def test_every_unlearner_of_a_small_network(algorithm):
    text, footprint = compiled("v5e:2x2", "cnn", algorithm, "epoch", 4)
    check(text, footprint, topology="v5e:2x2", batch=128, models=4)
    check_cycles(f"cnn {algorithm} v5e:2x2", text)


@pytest.mark.lengthy
@pytest.mark.parametrize("algorithm", sorted(STARTING))
def test_what_an_unlearner_of_a_small_network_begins_with(algorithm):
    text, footprint = compiled("v5e:2x2", "cnn", algorithm, "start", 4)
    check(text, footprint, topology="v5e:2x2", batch=128, models=4)
    check_cycles(f"cnn {algorithm} start v5e:2x2", text)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("network", "augmented", "side"),
    [("resnet18", "crop_flip", 32), ("vgg16", "none", 64)],
)
def test_a_step_of_a_large_network(network, augmented, side):
    text, footprint = compiled("v5e:2x2", network, "retrain", "epoch", 1, augmented, side)
    check(text, footprint, topology="v5e:2x2", batch=256)
    check_cycles(f"{network} {augmented} v5e:2x2", text)


# The settings of the paper, whose memory is known before code is generated

PAPER = (
    "cifar10_rum.py",
    "cifar100_rum.py",
    "tiny_imagenet_resnet18_rum.py",
    "tiny_imagenet_vgg16_rum.py",
)
SIDE_BY_SIDE_TOO = {"cifar10_rum.py": 8, "cifar100_rum.py": 4, "tiny_imagenet_vgg16_rum.py": 4}
"""models that fit side by side in bfloat16"""


@functools.cache
def programs_of(config):
    """The programs of a configuration's run."""
    sections = read(configuration(config, []))
    splits = shaped(sections.data, None)
    run = experiment.build_on(sections, splits, splits.train.images[:1])
    return planning.programs(run)


def memory(monkeypatch, config, number, per_device, within, *options):
    """The memory of a program, by a process that compiles as users do."""
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    argv = [f"--config={config}", "--topology=v5e:2x4", *options]
    return compiling.ask(argv, Request(number, per_device, within), threading.Event(), halfway=True)


@pytest.mark.parametrize("config", PAPER)
@pytest.mark.parametrize("phase", ["epoch", pytest.param("read", marks=pytest.mark.lengthy)])
def test_the_bank_of_a_setting_of_the_paper_fits(config, phase, monkeypatch):
    programs = programs_of(config)
    numbers = [
        number
        for number, program in enumerate(programs)
        if program.phase == phase and any(use.stage == "bank" for use in program.uses)
    ]
    needed = memory(monkeypatch, config, numbers[0], 1, "map")
    assert needed["hbm"] < 0.99 * CHIPS["v5e"].hbm
    assert needed["recomputed"] == 0
    assert not needed["refused"]


@pytest.mark.lengthy
@pytest.mark.parametrize("config", PAPER)
def test_every_program_of_a_setting_of_the_paper_fits(config, monkeypatch):
    for number, program in enumerate(programs_of(config)):
        needed = memory(monkeypatch, config, number, 1, "map")
        assert needed["hbm"] < 0.99 * CHIPS["v5e"].hbm, program.name
        assert needed["recomputed"] == 0, program.name
        assert not needed["refused"], program.name


@pytest.mark.lengthy
@pytest.mark.parametrize(("config", "count"), SIDE_BY_SIDE_TOO.items())
def test_several_models_would_fit_side_by_side(config, count, monkeypatch):
    numbers = [
        number
        for number, program in enumerate(programs_of(config))
        if program.phase == "epoch" and any(use.stage == "bank" for use in program.uses)
    ]
    option = "--config.model.bfloat16=True"
    needed = memory(monkeypatch, config, numbers[0], count, "vmap", option)
    assert needed["hbm"] < 0.99 * CHIPS["v5e"].hbm
    assert needed["recomputed"] == 0
