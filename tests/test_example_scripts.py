"""The scripts of `examples/`: models trained without rumjax are unlearned, and go home again."""

import pathlib
import re
import runpy

import numpy as np
import pytest
from PIL import Image

import rumjax
from rumjax import forget

ROOT = pathlib.Path(__file__).parent.parent
SHORT = {"EPOCHS": 4, "BATCH": 32}
"""What the scripts take instead, so that they take seconds."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Some of the images that `write_images.py` writes, in its folders."""
    folder = tmp_path_factory.mktemp("images")
    splits = rumjax.data.load("fashion_mnist_mini")
    for part, name, count in (
        ("train", "train", 300),
        ("validation", "val", 100),
        ("test", "test", 100),
    ):
        data = getattr(splits, part)
        for row in range(count):
            place = folder / name / f"{data.labels[row]}_class"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(data.images[row, ..., 0])).save(place / f"{row:05d}.png")
    return folder


def run_script(name, *arguments, **others):
    """Runs the `main` of a script with shorter training."""
    names = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    main = names["main"]
    main.__globals__.update(SHORT)
    main(*map(str, arguments), **others)


@pytest.mark.lengthy
@pytest.mark.parametrize(("kind", "ending"), [("linen", ".msgpack"), ("nnx", "")])
def test_a_model_of_ones_own_forgets_and_its_script_loads_it(
    kind, ending, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    path, work = tmp_path / f"mine{ending}", tmp_path / "work"
    run_script(f"train_{kind}", images, path)
    files = sorted(file.relative_to(images) for file in images.glob("train/*/*.png"))
    command = [
        f"--config={ROOT}/examples/forget_{kind}.py",
        f"--workdir={work}",
        f"--config.data.data_dir={images}",
        f"--config.original.path={path}",
        "--config.original.accept=True",  # a model of seconds
        "--config.training.epochs=4",
        "--config.training.batch_size=32",
        "--config.forgetting.budget=0.9",
        "--config.forgetting.validation_drop=1.0",
        "--config.forgetting.retained_drop=1.0",
        "--config.forgetting.p_value=0.0",
        "--config.forgetting.relearning=0",
        "--cpu_devices=1",
    ]
    for number in (1, 2):
        table = tmp_path / f"{number}.csv"
        named = [f"r{number},2026-11-26,{file}" for file in files[20 * number : 20 * number + 10]]
        table.write_text("\n".join(["request,received,file", *named]))
        assert forget.main([*command, f"--requests={table}"]) == 0
    assert forget.main([f"--verify={work}/requests/batch_0002/certificate.json"]) == 0
    capsys.readouterr()
    run_script(f"train_{kind}", images, work / f"requests/batch_0002/model{ending}", test=True)
    assert re.search(r"accuracy on train: 0\.\d", capsys.readouterr().out)


def test_the_scripts_know_nothing_of_rumjax():
    for name in ("train_linen", "train_nnx"):
        assert "import rumjax" not in (ROOT / "examples" / f"{name}.py").read_text()


def test_the_requests_name_images_that_the_script_writes():
    splits = rumjax.data.load("fashion_mnist_mini")
    names = [name.replace("/", " or ").replace(" ", "_").lower() for name in splits.class_names]
    for number in (1, 2):
        lines = (ROOT / f"examples/requests_{number}.csv").read_text().splitlines()[1:]
        assert len(lines) == 20
        for line in lines:
            folder, name = line.split(",")[3].removeprefix("train/").split("/")
            label = splits.train.labels[int(name.removesuffix(".png"))]
            assert folder == f"{label}_{names[label]}"
