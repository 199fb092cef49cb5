"""Compiles the programs of a plan, in this process or in others that are stopped halfway.

A TPU's compiler decides on memory in the first tenth of its time, and writes it down if asked to.
So each program is compiled in a process of its own, which is killed once that is on disk.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rumjax import ensemble
from rumjax.ensemble.arranging import footprint, recomputed
from rumjax.errors import InvalidInputError
from rumjax.lab.estimates import (
    Memory,
    hbm_of_report,
    refused_bytes,
    step_cycles,
)
from rumjax.lab.experiment import Run
from rumjax.lab.planning import Program
from rumjax.lab.targets import Target
from rumjax.training import Recipe
from rumjax.types import Dataset, PyTree, Subset, Task
from rumjax.unlearn import Step

PATIENCE = 3600.0
"""Seconds after which a compilation is given up."""
STEP_BATCHES = 4
"""Batches of the data on which the loop of training steps is compiled alone."""
Shape: Any = jax.ShapeDtypeStruct
"""The form of an array, in the place of one."""


class Stepping(NamedTuple):
    """The costs that a compiler states of one training step, of all models of a device together.

    None stands for those that it does not state.
    """

    flops: float | None
    transferred: float | None
    cycles: int | None


def arrangement(run: Run, platform: str) -> str:
    """Returns how the run's models share a device, see `rumjax.ensemble.within_device`."""
    program, data = stepping_program(run, run.recipe)
    work = _work(program, None)
    return ensemble.within_device(work, data, platform)


# Programs, from shapes


def lowered(
    run: Run, program: Program, target: Target, *, per_device: int, within: str
) -> jax.stages.Lowered:
    """Lowers a program of a run for so many models on each device of a target."""
    count = run.size + len(run.data.test.labels)
    data = Dataset(
        Shape((count, *run.data.train.images.shape[1:]), jnp.uint8), Shape((count,), jnp.int32)
    )
    model = getattr(program.step.unlearner, "model", run.model)
    variables = model.signature(data.images).variables
    return _lower(program, data, variables, target, per_device=per_device, within=within)


def _lower(
    program: Program,
    data: Dataset,
    variables: PyTree,
    target: Target,
    *,
    per_device: int,
    within: str,
) -> jax.stages.Lowered:
    """Lowers a program, of `rumjax.ensemble` itself, for data and variables of these shapes."""
    by_name = ensemble.lower(
        _work(program, variables),
        data,
        read=program.read,
        watch=program.watch,
        devices=target.devices,
        per_device=per_device,
        within=within,
    )
    return by_name["read" if program.phase == "read" else f"{program.step.name}: {program.phase}"]


def _work(program: Program, variables: PyTree) -> ensemble.Work:
    """Returns the work of a model that goes through a program, as shapes."""

    def one(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: Shape((1, *np.shape(leaf)), _dtype(leaf)), tree)

    keys = one(jax.eval_shape(lambda: jax.random.key(0)))
    if program.phase == "read":
        return ensemble.Work(["model"], keys, (), one(variables))
    name, unlearner, task = program.step
    parts = (Subset(one(part.indices), Shape((), jnp.int32)) for part in task)
    step = Step(name, one(unlearner), Task(*parts))
    scratch = getattr(unlearner, "from_scratch", False)
    return ensemble.Work(["model"], keys, (step,), None if scratch else one(variables))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def stepping_program(run: Run, recipe: Recipe) -> tuple[Program, Dataset]:
    """Returns the loop of training steps alone, on little data: what a step takes is the same."""
    count = STEP_BATCHES * recipe.batch_size
    image = run.data.train.images.shape[1:]
    indices = np.arange(count, dtype=np.int32)
    task = Task(Subset(indices[:0], np.int32(0)), Subset(indices, np.int32(count)))  # type: ignore[arg-type]
    step = Step("training", recipe, task)
    data = Dataset(Shape((count, *image), jnp.uint8), Shape((count,), jnp.int32))
    return Program("step", "epoch", step, ensemble.nothing, ensemble.nothing, ()), data


# In this process


def memory_of(program: jax.stages.Lowered) -> Memory:
    """Compiles a program, and returns what it takes on one device."""
    try:
        done = program.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = refused_bytes(str(error))
        if needed is None:
            raise
        return Memory(needed, 0, refused=True)
    return Memory(*footprint(done))


def stepping_of(run: Run, recipe: Recipe, target: Target, per_device: int, within: str) -> Stepping:
    """Compiles the loop of training steps, and returns what the compiler says of one of them."""
    form, data = stepping_program(run, recipe)
    variables = recipe.model.signature(data.images).variables
    program = _lower(form, data, variables, target, per_device=per_device, within=within)
    done = program.compile()
    costs: Any = done.cost_analysis() or {}
    return Stepping(
        costs.get("flops"),
        costs.get("bytes accessed"),
        step_cycles(done.as_text() or ""),
    )


def measured_step(run: Run, recipe: Recipe, target: Target, *, repeats: int = 3) -> float:
    """Measures a training step of a model on the devices at hand, all of them at work; seconds.

    Models are trained for an epoch of `STEP_BATCHES` steps on black images, once to compile and
    then as often as is said; the least of these times counts.
    """
    program, data = stepping_program(run, recipe)
    count = len(target.devices)
    whole = Dataset(
        jnp.zeros(data.images.shape, jnp.uint8),
        jnp.arange(data.labels.shape[0], dtype=jnp.int32) % run.data.num_classes,
    )
    rows = np.broadcast_to(program.step.task.retain.indices, (count, data.labels.shape[0]))
    once = dataclasses.replace(recipe, epochs=1)
    names = [f"model {number}" for number in range(count)]
    work = ensemble.training(once, names, jax.random.split(jax.random.key(0), count), rows)
    made = ensemble.run(
        [work] * repeats, whole, read=ensemble.nothing, devices=target.devices, diverging="noted"
    )
    return min(one.seconds for one in made) * count / STEP_BATCHES


# In other processes


class Request(NamedTuple):
    """A compilation that another process is asked for."""

    program: int
    """number of the program; with `is_step`, of the recipe whose step it is"""
    per_device: int
    within: str
    is_step: bool = False


def answer(
    request: Request,
    run: Run,
    programs: Sequence[Program],
    recipes: Sequence[Recipe],
    target: Target,
) -> dict[str, Any]:
    """Compiles what is asked for, and returns what the compiler says as JSON holds it."""
    number, per_device, within, is_step = request
    if is_step:
        return stepping_of(run, recipes[number], target, per_device, within)._asdict()
    program = lowered(run, programs[number], target, per_device=per_device, within=within)
    return memory_of(program)._asdict()


def ask(
    argv: Sequence[str], request: Request, stop: threading.Event, *, halfway: bool
) -> dict[str, Any]:
    """Has another process compile something, and returns its answer.

    Args:
      argv: the arguments of the command, which the other process is started with too.
      request: what to compile.
      stop: is set when nobody waits for the answer any more.
      halfway: whether it is killed once the compiler has written down what memory a program takes,
        before code is generated.

    Raises:
      InvalidInputError: it failed; says what it said.
    """
    # Stopping it halfway takes files that the compiler writes as it goes.
    with tempfile.TemporaryDirectory(prefix="rumjax-plan-") as folder:
        dumps, out, log = (pathlib.Path(folder, name) for name in ("xla", "answer.json", "log"))
        environment = dict(os.environ)
        halfway = halfway and not request.is_step
        if halfway:
            dump = f"--xla_dump_to={dumps} --xla_dump_hlo_as_long_text"
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {dump}".strip()

        # The same command in another process, and in a session of its own, so that it can be killed
        # with whatever it has started.
        inside = json.dumps([*request, str(out)])
        command = [sys.executable, "-m", "rumjax.plan", *argv, f"--inside={inside}"]
        with log.open("wb") as opened:
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                memory = _wait(child, dumps, stop)
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()

        # Its answer is what was read on the way, or what it has left; or else it failed.
        if memory is not None:
            return memory
        if out.is_file():
            answered: dict[str, Any] = json.loads(out.read_text())
            return answered
        said = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise InvalidInputError(f"plan: compiling failed: {' '.join(said)[-600:]}")


def _wait(
    child: "subprocess.Popen[bytes]", dumps: pathlib.Path, stop: threading.Event
) -> dict[str, Any] | None:
    """Waits for a process to end, or for what it writes down; None if it has ended by itself."""
    begin = time.monotonic()
    while child.poll() is None and time.monotonic() - begin < PATIENCE and not stop.is_set():
        # The last of the files is there when the others are whole.
        last = [
            path
            for path in dumps.glob("*after_optimizations_after_buffer_assignment.txt")
            if ".cpu_after" not in path.name
        ]
        if last:
            stem = last[0].name.removesuffix("_after_buffer_assignment.txt")
            report = dumps / f"{stem}-memory-usage-report.txt"
            _settled(last[0])
            text = last[0].read_text()
            hbm = hbm_of_report(report.read_text())
            return Memory(hbm, recomputed(text))._asdict()
        time.sleep(0.2)
    return None


def _settled(path: pathlib.Path) -> None:
    """Waits until a file no longer grows."""
    size = -1
    while size != (size := path.stat().st_size) or size == 0:
        time.sleep(0.3)


def recipes_of(run: Run, programs: Sequence[Program]) -> dict[int, Recipe]:
    """Returns, by batch size, the recipe whose step stands for one of training on such a batch."""
    sizes: Mapping[int, None] = dict.fromkeys(
        use.batch_size for program in programs for use in program.uses if use.batches
    )
    return {size: dataclasses.replace(run.recipe, batch_size=size) for size in sizes}
