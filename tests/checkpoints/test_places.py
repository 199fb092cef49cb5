"""Where in a checkpoint a model is found: wrappers, averages, other names, two that fit."""

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization, traverse_util
from hypothesis import strategies as st

import rumjax.models
from rumjax import checkpoints
from rumjax.errors import InvalidInputError
from rumjax.models import Model
from rumjax.types import Variables
from tests.checkpoints.scripts import (
    CLASSES,
    IMAGES,
    SCRIPTS,
    AveragedState,
    Linen,
    Nnx,
    fresh,
    nnx_state,
    state,
    variables,
)

MODEL = Model(Linen())
PLAIN = Model(Linen(batch_norm=False))


def msgpack(path, tree):
    path.write_bytes(serialization.to_bytes(tree))
    return path


def read(path, model=MODEL, images=IMAGES):
    return checkpoints.read(path, model, images)


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, dict(one), dict(two))


def test_the_functions_are_those_of_models_as_well():
    assert rumjax.models.load_variables is checkpoints.load_variables
    assert rumjax.models.save_variables is checkpoints.save_variables


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: v,
        lambda v: {"params": v},
        lambda v: {"state": {"model": v}},
        lambda v: {"model": {"state": {"variables": v}}},
        lambda v: {"params": v["params"], "model_state": {"batch_stats": v["batch_stats"]}},
        lambda v: {"backbone": v},
        lambda v: {"optimizer": {"target": v, "state": {"step": np.int32(3)}}},
    ],
)
def test_variables_are_found_below_usual_names(wrap, tmp_path):
    assert_same(read(msgpack(tmp_path / "m", wrap(variables()))).variables._asdict(), variables())


def test_bare_parameters_are_found_and_a_network_is_not_read_from_within_another(tmp_path):
    params = variables(batch_norm=False)["params"]
    checkpoint = read(msgpack(tmp_path / "bare", params), PLAIN)
    assert checkpoint.notes == ("the parameters are the whole checkpoint",)
    assert_same(checkpoint.variables.params, params)

    # The backbone of a larger network would fit.
    larger = {"params": {"model": params, "head": {"kernel": np.zeros((3, 2))}}}
    with pytest.raises(InvalidInputError, match=r"at 'params/model' only, .* give .*#params/model"):
        read(msgpack(tmp_path / "larger", larger), PLAIN)
    chosen = read(f"{tmp_path}/larger#params/model", PLAIN)
    assert_same(chosen.variables.params, params)


def test_an_average_that_differs_has_to_be_chosen(tmp_path):
    first, second = variables(0), variables(1)
    path = tmp_path / "m#1"
    msgpack(path, state(first, AveragedState, ema_params=second["params"]))
    with pytest.raises(InvalidInputError, match=r"2 models .* at 'params', 'ema_params'"):
        read(path)
    for name, given in {"params": first, "ema_params": second}.items():
        checkpoint = read(f"{path}#{name}")
        assert_same(checkpoint.variables.params, given["params"])
        assert_same(checkpoint.variables.batch_stats, first["batch_stats"])
    assert "an average over training" in checkpoint.notes[0]
    with pytest.raises(InvalidInputError, match="did you mean 'ema_params'"):
        read(f"{path}#ema_param")

    # All copies are replaced, and the optimizer's memory is gone.
    notes = checkpoints.save_variables(
        tmp_path / "new",
        checkpoint.variables,
        like=f"{path}#ema_params",
        model=MODEL,
        images=IMAGES,
    )
    assert notes[:2] == ("'params' was replaced", "'ema_params' was replaced")
    assert "set to zero" in notes[2]
    target = fresh(AveragedState, ema_params=first["params"])
    new = serialization.from_bytes(target, (tmp_path / "new").read_bytes())
    assert_same(new.params, second["params"])
    assert_same(new.ema_params, second["params"])
    assert int(new.step) == 7
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(new.opt_state))


def test_an_average_that_is_the_same_is_noted(tmp_path):
    given = variables()
    same = state(given, AveragedState, ema_params=given["params"])
    notes = read(msgpack(tmp_path / "m", same)).notes
    assert "'ema_params' holds the same numbers" in notes
    assert "opt_state, step were not read" in notes


def test_an_average_has_its_own_batch_statistics(tmp_path):
    one, two = variables(0), variables(1)
    given = {**one, "ema_params": two["params"], "ema_batch_stats": two["batch_stats"]}
    msgpack(tmp_path / "m", given)
    for name, wanted in {"params": one, "ema_params": two}.items():
        assert_same(read(f"{tmp_path}/m#{name}").variables._asdict(), wanted)


def test_settings_of_an_optimizer_stay(tmp_path):
    given, rate = variables(), 0.25
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=rate, momentum=0.9)
    memory = jax.tree.map(lambda leaf: leaf + 1, optimizer.init(given["params"]))
    path = msgpack(tmp_path / "old", {**given, "opt_state": memory})
    read_back = read(path).variables
    checkpoints.save_variables(tmp_path / "new", read_back, like=path, model=MODEL, images=IMAGES)
    new = serialization.msgpack_restore((tmp_path / "new").read_bytes())["opt_state"]
    assert new["hyperparams"]["learning_rate"] == rate + 1
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(new["inner_state"]))


@pytest.mark.parametrize("separator", ["/", "."])
def test_layers_of_other_names_are_told_by_their_shapes_if_that_is_certain(separator, tmp_path):
    params = variables(batch_norm=False)["params"]
    other = {"first": params["conv"], "last": params["head"]}
    with (tmp_path / "m").open("wb") as file:
        np.savez(file, **traverse_util.flatten_dict(other, sep=separator))
    checkpoint = read(tmp_path / "m", PLAIN)
    assert_same(checkpoint.variables.params, params)
    assert "conv was read from 'first', by its shapes" in checkpoint.notes
    assert "head was read from 'last', by its shapes" in checkpoint.notes


class Twins(nn.Module):
    """Two layers that only their names tell apart."""

    @nn.compact
    def __call__(self, images):
        hidden = nn.Dense(16, name="a")(images.reshape(len(images), -1))
        return nn.Dense(CLASSES, name="c")(nn.Dense(16, name="b")(hidden))


def test_layers_of_one_shape_are_never_guessed(tmp_path):
    model = Model(Twins())
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape), model.signature(IMAGES).variables.params
    )
    other = {"x": params["a"], "y": params["b"], "c": params["c"]}
    with pytest.raises(InvalidInputError, match=r"4 arrays are missing \(a/bias"):
        read(msgpack(tmp_path / "m", other), model)


def test_a_name_of_the_model_never_goes_to_another_layer(tmp_path):
    params = variables(batch_norm=False)["params"]
    swapped = {"conv": params["head"], "other": params["conv"]}
    with pytest.raises(InvalidInputError, match="are missing"):
        read(msgpack(tmp_path / "m", swapped), PLAIN)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float64])
@pytest.mark.parametrize("name", ["safetensors", "variables"])
def test_other_floats_are_converted_and_written_as_they_were(name, dtype, tmp_path):
    given = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), variables())
    SCRIPTS[name].save(tmp_path / "old", given)
    checkpoint = read(tmp_path / "old")
    assert_same(checkpoint.variables._asdict(), jax.tree.map(np.float32, given))
    assert f"8 of 8 arrays are {np.dtype(dtype)} and were converted" in checkpoint.notes[-1]
    notes = checkpoints.save_variables(
        tmp_path / "new", checkpoint.variables, like=tmp_path / "old", model=MODEL, images=IMAGES
    )
    assert f"arrays were converted to {np.dtype(dtype)}, as they were before" in notes
    assert_same(read(tmp_path / "new").variables._asdict(), checkpoint.variables._asdict())


def test_images_may_be_left_out(tmp_path):
    class Usual(nn.Module):
        @nn.compact
        def __call__(self, images):
            return nn.Dense(2)(images.reshape(len(images), -1))

    params = {"Dense_0": {"kernel": np.ones((28 * 28, 2)), "bias": np.ones(2)}}
    path = msgpack(tmp_path / "m", params)
    assert_same(read(path, Model(Usual()), None).variables.params, params)


def test_the_last_step_is_read_and_noted(tmp_path):
    SCRIPTS["manager"].save(tmp_path / "run", variables())
    notes = read(tmp_path / "run").notes
    assert "step 30 was read, the last of 2; earlier ones are 4" in notes
    for path, format in (
        (tmp_path / "run" / "4", "checkpoint manager, step 4, item default"),
        (tmp_path / "run" / "30" / "default", "orbax v0"),
    ):
        checkpoint = read(path)
        assert checkpoint.format == format
        new = tmp_path / "new" / path.name
        checkpoints.save_variables(new, checkpoint.variables, like=path, model=MODEL, images=IMAGES)
        assert read(new).format == format


def test_steps_as_flax_names_them_are_read_and_written(tmp_path):
    for step in (4, 30):
        SCRIPTS["variables"].save(tmp_path / "run" / f"checkpoint_{step}", variables(step))
    checkpoint = read(tmp_path / "run")
    assert_same(checkpoint.variables._asdict(), variables(30))
    options = {"like": tmp_path / "run", "model": MODEL, "images": IMAGES}
    checkpoints.save_variables(tmp_path / "new", checkpoint.variables, **options)
    assert_same(SCRIPTS["variables"].restore(tmp_path / "new" / "checkpoint_30"), variables(30))

    # Which of two series is meant cannot be known.
    SCRIPTS["variables"].save(tmp_path / "run" / "31", variables())
    with pytest.raises(InvalidInputError, match="holds steps of checkpoint, no name"):
        read(tmp_path / "run")


def test_a_manager_still_knows_its_best_step(tmp_path):
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: metrics["accuracy"])
    with ocp.CheckpointManager(tmp_path / "old", options=options) as manager:
        manager.save(3, args=ocp.args.StandardSave(variables()), metrics={"accuracy": 0.5})
    new = read(tmp_path / "old").variables
    checkpoints.save_variables(
        tmp_path / "new", new, like=tmp_path / "old", model=MODEL, images=IMAGES
    )
    with ocp.CheckpointManager(tmp_path / "new", options=options) as manager:
        assert manager.best_step() == 3
        assert manager.metrics(3) == {"accuracy": 0.5}
        assert_same(manager.restore(3, args=ocp.args.StandardRestore(variables(5))), variables())


def test_a_checkpoint_of_many_devices_is_read_on_one(tmp_path):
    mesh = jax.make_mesh((8,), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
    shared = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
    given = variables()
    given["params"]["head"]["kernel"] = jax.device_put(given["params"]["head"]["kernel"], shared)
    ocp.PyTreeCheckpointer().save(tmp_path / "m", given)
    assert_same(read(tmp_path / "m").variables._asdict(), given)


def test_a_state_of_nnx_gives_the_outputs_of_its_module(tmp_path):
    given = nnx_state(variables())
    ocp.PyTreeCheckpointer().save(tmp_path / "m", given)
    module = Nnx(rngs=nnx.Rngs(1))
    nnx.update(module, given)
    module.eval()
    images = jnp.asarray(np.random.default_rng(0).random((5, 4, 4, 1)), jnp.float32)
    bridged = Model(nnx.bridge.to_linen(Nnx))
    for model in (MODEL, bridged):
        checkpoint = read(tmp_path / "m", model)
        outputs, _ = model.apply(checkpoint.variables, images, train=False)
        np.testing.assert_allclose(outputs.logits, module(images), rtol=1e-5, atol=1e-5)


NAMES = st.text("abxyz_0", min_size=1, max_size=4)
LEAVES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
TREES = st.recursive(LEAVES, lambda tree: st.dictionaries(NAMES, tree, min_size=1, max_size=3))


class Shaped(nn.Module):
    """Parameters of any shapes, in any tree."""

    shapes: tuple

    @nn.compact
    def __call__(self, images):
        scope = self.scope
        for path, shape in self.shapes:
            inner = scope
            for name in path[:-1]:
                inner = inner.push(name, reuse=True)
            inner.param(path[-1], lambda key, shape=shape: jnp.zeros(shape))
        return jnp.zeros((len(images), 2))


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(st.dictionaries(NAMES, TREES, min_size=1, max_size=3), st.sampled_from("ns"))
def test_what_is_written_is_read_whatever_the_tree(tmp_path_factory, tree, kind):
    flat = traverse_util.flatten_dict({"net": tree})
    model = Model(Shaped(tuple(sorted(flat.items()))))
    folder = tmp_path_factory.mktemp("tree")
    random = np.random.default_rng(0)
    old = {path: random.random(shape, np.float32) for path, shape in flat.items()}
    if kind == "n":
        with (folder / "old").open("wb") as file:
            np.savez(file, **{"/".join(path): leaf for path, leaf in old.items()})
    else:
        msgpack(folder / "old", {"params": traverse_util.unflatten_dict(old)})
    checkpoint = read(folder / "old", model)
    assert_same(traverse_util.flatten_dict(checkpoint.variables.params), old)
    new = Variables(jax.tree.map(lambda leaf: leaf + 1, checkpoint.variables.params), {})
    checkpoints.save_variables(folder / "new", new, like=folder / "old", model=model, images=IMAGES)
    assert_same(read(folder / "new", model).variables.params, new.params)
