"""Training scripts of others: how they save a model and restore it, without rumjax."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import safetensors.numpy
from flax import nnx, serialization, traverse_util
from flax.training import train_state
from orbax.checkpoint.experimental import v1

IMAGES = jax.ShapeDtypeStruct((1, 4, 4, 1), np.uint8)
CLASSES = 3


class Linen(nn.Module):
    """A convolution, batch norm and a dense layer, named as `Nnx` names them."""

    batch_norm: bool = True

    @nn.compact
    def __call__(self, images, train=False):
        hidden = nn.Conv(2, (3, 3), name="conv")(images)
        if self.batch_norm:
            hidden = nn.BatchNorm(use_running_average=not train, name="bn")(hidden)
        hidden = nn.relu(hidden).reshape(len(images), -1)
        return nn.Dense(CLASSES, name="head")(hidden)


class Nnx(nnx.Module):
    """The same network, with dropout that never drops."""

    def __init__(self, *, rngs):
        self.conv = nnx.Conv(1, 2, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(2, rngs=rngs)
        self.drop = nnx.Dropout(0.0, rngs=rngs)
        self.head = nnx.Linear(32, CLASSES, rngs=rngs)

    def __call__(self, images, train=False):
        hidden = nnx.relu(self.bn(self.conv(images), use_running_average=not train))
        return self.head(self.drop(hidden.reshape(len(images), -1)))


class State(train_state.TrainState):
    batch_stats: Any


class AveragedState(State):
    ema_params: Any


def variables(seed=0, batch_norm=True):
    """Params and batch statistics, all of them random."""
    form = Linen(batch_norm).init(jax.random.key(0), jnp.zeros(IMAGES.shape))
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.random(leaf.shape), leaf.dtype), form)


def state(given, kind=State, **more):
    """A train state some steps into training, whose optimizer remembers gradients."""
    stats = {} if kind is train_state.TrainState else {"batch_stats": given["batch_stats"]}
    made = kind.create(
        apply_fn=Linen().apply, params=given["params"], tx=optax.adam(1e-3), **stats, **more
    )
    momentum = jax.tree.map(lambda leaf: leaf + 1, made.opt_state)
    return made.replace(step=7, opt_state=momentum)


def fresh(kind=State, **more):
    """The target that a script restores into."""
    return state(jax.tree.map(jnp.zeros_like, variables()), kind, **more)


def nnx_state(given):
    """The state of an `Nnx` with given variables."""
    merged = {
        layer: {**given["params"].get(layer, {}), **given["batch_stats"].get(layer, {})}
        for layer in ("conv", "bn", "head")
    }
    module = Nnx(rngs=nnx.Rngs(3))
    made = nnx.state(module)
    flat = {path: made[path[0]][path[1]] for path in traverse_util.flatten_dict(merged)}
    for path, leaf in traverse_util.flatten_dict(merged).items():
        flat[path].set_value(leaf)
    return made


@dataclasses.dataclass(frozen=True)
class Script:
    """How one script saves variables, and what it has after restoring them into its own target."""

    format: str
    save: Callable
    restore: Callable
    """returns params and batch_stats, and checks the rest of what it restores"""


def _of(restored):
    return {"params": restored.params, "batch_stats": restored.batch_stats}


def _of_state(restored):
    """Checks the step and the optimizer's state of a train state that is not the one saved."""
    assert int(restored.step) == 7
    assert isinstance(restored.opt_state[0], optax.ScaleByAdamState)
    remembered = jax.tree.leaves(restored.opt_state)
    assert len({float(jnp.sum(jnp.abs(leaf))) == 0 for leaf in remembered}) == 1
    return _of(restored)


def _standard_save(path, tree):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def _standard_restore(path, target):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, target)


def _pytree_restore(path, target):
    arguments = ocp.checkpoint_utils.construct_restore_args(target)
    return ocp.PyTreeCheckpointer().restore(path, item=target, restore_args=arguments)


def _manager_save(path, *steps, **items):
    with ocp.CheckpointManager(path) as manager:
        for step in steps:
            single = items.get("default")
            args = ocp.args.StandardSave(single) if single else None
            manager.save(step, args=args or ocp.args.Composite(**items))


def _manager_restore(path):
    with ocp.CheckpointManager(path) as manager:
        assert manager.latest_step() == 30
        return manager.restore(30, args=ocp.args.StandardRestore(fresh()))


def _save_items(path, given):
    meta = ocp.args.JsonSave({"epochs": 5})
    _manager_save(path, 30, state=ocp.args.PyTreeSave(state(given)), meta=meta)


def _restore_items(path):
    target = fresh()
    args = ocp.checkpoint_utils.construct_restore_args(target)
    items = ocp.args.Composite(
        state=ocp.args.PyTreeRestore(target, restore_args=args), meta=ocp.args.JsonRestore()
    )
    with ocp.CheckpointManager(path) as manager:
        restored = manager.restore(30, args=items)
    assert restored.meta == {"epochs": 5}
    return _of_state(restored.state)


def _save_parts(path, given):
    parts = {name: ocp.args.StandardSave(part) for name, part in given.items()}
    with ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(step_prefix="at")) as m:
        m.save(30, args=ocp.args.Composite(**parts))


def _restore_parts(path):
    parts = {name: ocp.args.StandardRestore(part) for name, part in variables(5).items()}
    with ocp.CheckpointManager(path, options=ocp.CheckpointManagerOptions(step_prefix="at")) as m:
        return dict(m.restore(30, args=ocp.args.Composite(**parts)).items())


def _v1_items_restore(path):
    restored = v1.load_checkpointables(path, {"net": fresh(), "run": {"epochs": 0}})
    assert restored["run"] == {"epochs": 5}
    return _of_state(restored["net"])


def _v1_steps_save(path, given):
    with v1.training.Checkpointer(path) as checkpointer:
        checkpointer.save_checkpointables(30, {"state": state(given)})


def _v1_steps_restore(path):
    with v1.training.Checkpointer(path) as checkpointer:
        return _of_state(checkpointer.load_checkpointables(30, {"state": fresh()})["state"])


def _of_nnx(restored):
    """Params and batch statistics of a pure dictionary."""
    stats = {"bn": {name: restored["bn"][name] for name in ("mean", "var")}}
    bn = {name: restored["bn"][name] for name in ("scale", "bias")}
    return {
        "params": {**{k: restored[k] for k in ("conv", "head")}, "bn": bn},
        "batch_stats": stats,
    }


def _nnx_restore(path):
    module = Nnx(rngs=nnx.Rngs(8))
    restored = _standard_restore(path, nnx.state(module))
    nnx.update(module, restored)
    assert jax.random.key_data(module.drop.rngs.key.get_value()).tolist() == [
        *jax.random.key_data(nnx_state(variables())["drop"]["rngs"]["key"].get_value()).tolist()
    ]
    return _of_nnx(nnx.to_pure_dict(nnx.state(module)))


def _nnx_pure_restore(path):
    return _of_nnx(_pytree_restore(path, nnx.to_pure_dict(nnx_state(variables(5)))))


def _msgpack_save(tree_of):
    return lambda path, given: path.write_bytes(serialization.to_bytes(tree_of(given)))


def _flat(given, separator):
    flat = traverse_util.flatten_dict(given, sep=separator)
    return {name: np.asarray(leaf) for name, leaf in flat.items()}


def _nested(arrays, separator):
    return traverse_util.unflatten_dict(dict(arrays), sep=separator)


def _npz_save(path, given):
    with path.open("wb") as file:
        np.savez_compressed(file, **_flat(given, "/"))


def _npz_restore(path):
    with np.load(path) as arrays:
        return _nested(arrays, "/")


SCRIPTS = {
    "variables": Script("orbax v0", _standard_save, lambda p: _standard_restore(p, variables(5))),
    "train state": Script(
        "orbax v0",
        lambda path, given: ocp.PyTreeCheckpointer().save(path, state(given)),
        lambda path: _of_state(_pytree_restore(path, fresh())),
    ),
    "manager": Script(
        "checkpoint manager, step 30, item default",
        lambda path, given: _manager_save(path, 4, 30, default=state(given)),
        lambda path: _of_state(_manager_restore(path)),
    ),
    "items": Script("checkpoint manager, step 30, item state", _save_items, _restore_items),
    "parts": Script("checkpoint manager, step 30, item params", _save_parts, _restore_parts),
    "v1": Script(
        "orbax v1",
        lambda path, given: v1.save(path, state(given)),
        lambda path: _of_state(v1.load(path, fresh())),
    ),
    "v1 items": Script(
        "orbax v1, item net",
        lambda p, given: v1.save_checkpointables(p, {"net": state(given), "run": {"epochs": 5}}),
        _v1_items_restore,
    ),
    "v1 steps": Script(
        "checkpoint manager, step 30, item state", _v1_steps_save, _v1_steps_restore
    ),
    "nnx": Script("orbax v0", lambda p, given: _standard_save(p, nnx_state(given)), _nnx_restore),
    "nnx pure": Script(
        "orbax v0",
        lambda p, given: ocp.PyTreeCheckpointer().save(p, nnx.to_pure_dict(nnx_state(given))),
        _nnx_pure_restore,
    ),
    "msgpack": Script(
        "flax msgpack",
        _msgpack_save(dict),
        lambda path: serialization.from_bytes(variables(5), path.read_bytes()),
    ),
    "msgpack train state": Script(
        "flax msgpack",
        _msgpack_save(state),
        lambda path: _of_state(serialization.from_bytes(fresh(), path.read_bytes())),
    ),
    "safetensors": Script(
        "safetensors",
        lambda path, given: safetensors.numpy.save_file(_flat(given, "."), path),
        lambda path: _nested(safetensors.numpy.load_file(path), "."),
    ),
    "npz": Script("npz", _npz_save, _npz_restore),
}
"""Training scripts, by what they save."""
