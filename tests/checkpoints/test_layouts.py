"""State dicts of PyTorch's networks become variables of ours, and go back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.checkpoints.layouts import from_torch, to_torch
from rumjax.errors import InvalidInputError
from rumjax.models import Cnn, Model, ResNet, ViT
from rumjax.types import Variables

IMAGES = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
RESNET = {"num_classes": 5, "depths": (1, 2), "width": 4}
VIT = ViT(5, patch=8, dim=12, heads=3, depth=2, mlp_ratio=2)


def form_of(model):
    return model.signature(IMAGES).variables


def norm(name, width, running=True):
    names = ["weight", "bias", "running_mean", "running_var"][: 4 if running else 2]
    shapes = {f"{name}.{each}": (width,) for each in names}
    return shapes | ({f"{name}.num_batches_tracked": ()} if running else {})


def dense(name, out, inner):
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def resnet_shapes(bottleneck, first=(4, 3, 3, 3)):
    """What PyTorch calls the arrays of `RESNET`, and their shapes, written out by hand."""
    wide = 4 if bottleneck else 1
    shapes = {"conv1.weight": first, **norm("bn1", 4)}
    inner = 4
    for stage, position, width in ((1, 0, 4), (2, 0, 8), (2, 1, 8)):
        block = f"layer{stage}.{position}"
        kernels = (
            [(width, inner, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if bottleneck
            else [(width, inner, 3, 3), (width, width, 3, 3)]
        )
        for number, kernel in enumerate(kernels, start=1):
            shapes[f"{block}.conv{number}.weight"] = kernel
            shapes |= norm(f"{block}.bn{number}", kernel[0])
        if inner != width * wide:
            shapes[f"{block}.downsample.0.weight"] = (width * wide, inner, 1, 1)
            shapes |= norm(f"{block}.downsample.1", width * wide)
        inner = width * wide
    return shapes | dense("fc", 5, inner)


def timm_shapes():
    shapes = {"cls_token": (1, 1, 12), "pos_embed": (1, 17, 12)}
    shapes |= {"patch_embed.proj.weight": (12, 3, 8, 8), "patch_embed.proj.bias": (12,)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= norm(f"{block}.norm1", 12, running=False)
        shapes |= dense(f"{block}.attn.qkv", 36, 12) | dense(f"{block}.attn.proj", 12, 12)
        shapes |= norm(f"{block}.norm2", 12, running=False)
        shapes |= dense(f"{block}.mlp.fc1", 24, 12) | dense(f"{block}.mlp.fc2", 12, 24)
    return shapes | norm("norm", 12, running=False) | dense("head", 5, 12)


def torchvision_shapes():
    shapes = {"class_token": (1, 1, 12), "conv_proj.weight": (12, 3, 8, 8), "conv_proj.bias": (12,)}
    shapes["encoder.pos_embedding"] = (1, 17, 12)
    for number in range(2):
        block = f"encoder.layers.encoder_layer_{number}"
        shapes |= norm(f"{block}.ln_1", 12, running=False)
        attention = f"{block}.self_attention"
        shapes |= {f"{attention}.in_proj_weight": (36, 12), f"{attention}.in_proj_bias": (36,)}
        shapes |= dense(f"{attention}.out_proj", 12, 12) | norm(f"{block}.ln_2", 12, running=False)
        shapes |= dense(f"{block}.mlp.0", 24, 12) | dense(f"{block}.mlp.3", 12, 24)
    return shapes | norm("encoder.ln", 12, running=False) | dense("heads.head", 5, 12)


LAYOUTS = {
    "plain": (ResNet(**RESNET, bottleneck=False), resnet_shapes(False)),
    "bottleneck": (ResNet(**RESNET, bottleneck=True), resnet_shapes(True)),
    "imagenet": (
        ResNet(**RESNET, bottleneck=False, stem="imagenet"),
        resnet_shapes(False, (4, 3, 7, 7)),
    ),
    "timm": (VIT, timm_shapes()),
    "torchvision": (VIT, torchvision_shapes()),
}


def drawn(shapes, seed=0):
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=shape).astype(np.float32) if shape else np.array(7, np.int64)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", LAYOUTS)
def test_there_and_back_is_the_identity(name, prefix):
    module, shapes = LAYOUTS[name]
    model = Model(module)
    arrays = {prefix + each: array for each, array in drawn(shapes).items()}
    variables = from_torch(arrays, model, form_of(model))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, form_of(model))

    # Every array of the network comes from the state dict, and goes back to its place.
    like = {each: np.zeros_like(array) for each, array in arrays.items()}
    back = to_torch(variables, model, like)
    assert list(back) == list(arrays)
    for each, array in arrays.items():
        kept = np.zeros_like(array) if array.ndim == 0 else array
        np.testing.assert_array_equal(back[each], kept)
        assert back[each].dtype == array.dtype


def test_axes_are_those_of_the_definition():
    model, arrays = Model(LAYOUTS["plain"][0]), drawn(resnet_shapes(False))
    params, stats = from_torch(arrays, model, form_of(model))
    kernel, dense = params["BasicBlock_1"]["Conv_2"]["kernel"], params["Dense_0"]["kernel"]
    assert kernel[0, 0, 3, 5] == arrays["layer2.0.downsample.0.weight"][5, 3, 0, 0]
    assert params["Conv_0"]["kernel"][2, 1, 0, 3] == arrays["conv1.weight"][3, 0, 2, 1]
    assert dense[6, 4] == arrays["fc.weight"][4, 6]
    assert stats["BatchNorm_0"]["var"][2] == arrays["bn1.running_var"][2]


def test_few_bits_are_read_as_float32_and_written_as_they_were():
    model, arrays = Model(VIT), drawn(timm_shapes())
    arrays = {name: array.astype(jnp.bfloat16) for name, array in arrays.items()}
    variables = from_torch(arrays, model, form_of(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    back = to_torch(variables, model, arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == jnp.bfloat16


def test_other_networks_and_names_are_left_alone():
    images = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    small, model = Model(Cnn(5)), Model(VIT)
    form = small.signature(images).variables
    assert from_torch(drawn(timm_shapes()), small, form) is None
    assert from_torch(drawn(resnet_shapes(False)), model, form_of(model)) is None
    with pytest.raises(InvalidInputError, match="no layout of PyTorch's for Cnn"):
        to_torch(Variables({}, {}), small, drawn(timm_shapes()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("layer1.0.bn2.running_var"), "1 are missing: layer1.0.bn2.running_var"),
        (lambda a: a.update(extra=np.zeros(3)), "1 are not the network's: extra"),
        (
            lambda a: [a.pop(each) for each in list(a) if "bn" in each],
            r"28 are missing: layer1.0.bn1.bias, .*, …",
        ),
        (
            lambda a: a.update({"conv1.weight": np.zeros((4, 3, 7, 7))}),
            r"conv1.weight is \[4, 3, 7, 7\], wanted \[4, 3, 3, 3\]",
        ),
        (
            lambda a: a.update({"fc.weight": np.zeros((9, 8)), "fc.bias": np.zeros(9)}),
            "its last layer, fc.weight, has 9 classes, but the network 5",
        ),
    ],
)
def test_what_does_not_fit_is_listed(change, message):
    model, arrays = Model(LAYOUTS["plain"][0]), drawn(resnet_shapes(False))
    change(arrays)
    with pytest.raises(InvalidInputError, match=message):
        from_torch(arrays, model, form_of(model))


# Against PyTorch's own outputs


def torch_networks():
    """Networks of torchvision and timm, and ours of the same kind, by name."""
    torchvision, timm = pytest.importorskip("torchvision"), pytest.importorskip("timm")
    torch = pytest.importorskip("torch")

    def with_cifar_stem():
        network = torchvision.models.resnet18(num_classes=10)
        network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = torch.nn.Identity()
        return network

    def resnet(depths, bottleneck=False, stem="imagenet"):
        return ResNet(10, depths, bottleneck, stem=stem)

    vit = torchvision.models.VisionTransformer(32, 8, 2, 3, 48, 192, num_classes=10)
    return {
        "torchvision resnet18": (
            torchvision.models.resnet18(num_classes=10),
            resnet((2, 2, 2, 2)),
        ),
        "cifar stem": (with_cifar_stem(), resnet((2, 2, 2, 2), stem="cifar")),
        "torchvision resnet50": (
            torchvision.models.resnet50(num_classes=10),
            resnet((3, 4, 6, 3), bottleneck=True),
        ),
        "timm resnet34": (timm.create_model("resnet34", num_classes=10), resnet((3, 4, 6, 3))),
        "timm vit": (
            timm.create_model(
                "vit_tiny_patch16_224", img_size=32, patch_size=4, depth=3, num_classes=10
            ),
            ViT(10, depth=3),
        ),
        "torchvision vit": (vit, ViT(10, patch=8, dim=48, heads=3, depth=2)),
    }


@pytest.mark.usefixtures("full_optimization")
def test_our_networks_say_what_pytorch_s_say():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    images = random.normal(size=(3, 32, 32, 3)).astype(np.float32)
    for name, (network, module) in torch_networks().items():
        # Arrays as training might have left them, not zeros and ones.
        network.eval()
        with torch.no_grad():
            for each, tensor in network.state_dict().items():
                if each.endswith("running_var"):
                    tensor.uniform_(0.5, 2)
                elif tensor.ndim == 1 or "token" in each or each.startswith(("fc", "head")):
                    tensor.add_(0.1 * torch.randn(tensor.shape))
            wanted = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        arrays = {each: tensor.numpy() for each, tensor in network.state_dict().items()}

        model = Model(module)
        variables = from_torch(arrays, model, form_of(model))
        outputs, _ = jax.jit(lambda v, x, model=model: model.apply(v, x, train=False))(
            variables, images
        )
        scale = max(1.0, np.abs(wanted).max())
        error = np.abs(outputs.logits - wanted).max() / scale
        print(f"{name}: {error:.1e} of {scale:.2f}")
        assert error <= 1e-4, name
        back = to_torch(variables, model, arrays)
        for each, array in arrays.items():
            np.testing.assert_array_equal(back[each], array)
