"""The command line: configurations, overrides, and one message for each mistake."""

import jax
import pytest

from rumjax import launch
from rumjax.errors import InvalidInputError
from rumjax.lab import devices

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "made_up"
    config.seeds = 3
    config.data = {"name": "npz", "data_dir": None}
    config.training = {"learning_rate": 0.1, "milestones": (1, 2)}
    config.model = {"bfloat16": False}
    config = config.to_dict()
    config["methods"] = {
        "v1.0": {"select": {"all": {"algorithm": "finetune"}}},
        "own": {"select": {"all": {"algorithm": "package:function"}}},
    }
    config["cases"] = {"one": {"forget": {"by": "random"}}}
    return config
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory, and devices that launch cannot change for other tests."""
    jax.local_devices()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made_up(here):
    (here / "made_up.py").write_text(CONFIG)
    return "made_up.py"


def failure(capsys, *argv):
    """The one message on stderr of a command that fails; how it fails is the same for all."""
    try:
        status = launch.main(list(argv))
    except SystemExit as left:  # argparse does so
        status = left.code
    printed = capsys.readouterr()
    assert status not in (0, None)
    assert "Traceback" not in printed.err + printed.out
    assert not list(launch.pathlib.Path().rglob("runs"))
    return printed.err


def test_help_explains_configurations_overrides_and_results(capsys):
    with pytest.raises(SystemExit) as left:
        launch.main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for wanted in ("fashion_mnist_rum.py", "--config.seeds=5", "report.html", "--recompute"):
        assert wanted in text


def test_a_configuration_is_a_path_or_a_name_here_or_in_configs_or_packaged(here, made_up):
    assert launch.configuration(str(here / made_up))["name"] == "made_up"
    assert launch.configuration("made_up.py")["name"] == "made_up"
    assert launch.configuration("made_up")["name"] == "made_up"
    assert launch.configuration("fashion_mnist_rum.py")["name"] == "fashion_mnist_rum"
    (here / "configs").mkdir()
    (here / "configs" / "fashion_mnist_rum.py").write_text(CONFIG)
    assert launch.configuration("fashion_mnist_rum")["name"] == "made_up"
    (here / "fashion_mnist_rum.py").write_text(CONFIG.replace("made_up", "nearest"))
    assert launch.configuration("fashion_mnist_rum")["name"] == "nearest"


def test_a_configuration_in_the_home_directory_is_found(here, made_up, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    assert launch.configuration("~/made_up.py")["name"] == "made_up"


@pytest.mark.parametrize("name", ["fashion_mnist_rumm.py", "/no/where.py", "", ".", "x" * 90])
def test_an_unknown_configuration_lists_those_there_are(capsys, name):
    message = failure(capsys, f"--config={name}")
    assert f"unknown configuration {name!r}" in message
    assert "fashion_mnist_rum.py" in message
    assert ("did you mean 'fashion_mnist_rum.py'" in message) == name.startswith("fashion")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seds=5"], "override seds: unknown section 'seds'; did you mean 'seeds'?"),
        (["--config.training.learning_rte=5"], "did you mean 'learning_rate'?"),
        (["--config.training=5"], "override training: wanted options by name, got '5'"),
        (["--config.name.first=5"], "override name.first: unknown option in name 'first'"),
        (["--config.seeds=many"], "override seeds: wanted a whole number, got 'many'"),
        (["--config.seeds=2.5"], "wanted a whole number, got '2.5'"),
        (["--config.seeds=True"], "wanted a whole number, got 'True'"),
        (["--config.seeds="], "wanted a whole number, got ''"),
        (["--config.training.learning_rate=fast"], "wanted a number, got 'fast'"),
        (["--config.training.learning_rate=True"], "wanted a number, got 'True'"),
        (["--config.model.bfloat16=1"], "wanted True or False, got '1'"),
        (
            ["--config.training.milestones=late"],
            "wanted several whole numbers, like (1, 2), got 'late'",
        ),
        (["--config.seeds"], "argument '--config.seeds': overrides look like --config.seeds=5"),
        (["--config.seeds", "5"], "argument '--config.seeds'"),
        (["--seeds=5"], "argument '--seeds=5': overrides look like"),
        (["stray"], "argument 'stray': overrides look like"),
        (["--workdr=x"], "argument '--workdr=x': overrides look like"),
        (["--cpu_devices=0"], "--cpu_devices: wanted a whole number of at least 1, got 0"),
        (["--cpu_devices=two"], "invalid int value: 'two'"),
        (
            ["--config.training.lr=0.1"],
            "unknown option in training 'lr'; did you mean 'learning_rate'",
        ),
        (["--config.cases.two.forget.size=3"], "unknown option in cases 'two'"),
        (["--config.methods.own.refin=x"], "did you mean 'refine'"),
        (["--config.="], "a name is missing; wanted for example --config.seeds=5"),
        (["--config.data.=3"], "a name is missing"),
        (["--config.seed=" + "9" * 5000], "wanted a whole number"),
        (["--config.training.momentum=nan"], "training.momentum: wanted a number, got 'nan'"),
        (["--config.training.momentum=1e999"], "training.momentum: wanted a finite number"),
        (["--config.model.options={1: 2}"], "model.options: wanted names that are text, got 1"),
        (["--config.model.options=" + "[" * 500], "wanted options by name"),
        ([], "the configuration lacks attack, bank, seed"),
        ([], 'config.bank = {"models": 64,'),
        (["--config.forget.examples="], "for a name; got ''"),
        (["--config.forget.examples=3-5"], "for a name; got '3-5'"),
        (["--config.forget.examples=range(3)"], "for a name; got 'range(3)'"),
        (["--config.forget.examples=range(3, 5)"], "for a name; got 'range(3, 5)'"),
        (["--config.forget.examples=3;5"], "for a name; got '3;5'"),
        (["--config.audit.methods="], "written like one,two; got ''"),
        (["--workdir="], "--workdir: wanted a folder, got ''"),
    ],
)
def test_mistaken_arguments_get_one_message(capsys, made_up, arguments, message):
    found = failure(capsys, f"--config={made_up}", *arguments)
    assert message in found
    assert found.count("rror") <= 2  # "error: InvalidInputError: ..."


def test_the_configuration_is_required(capsys):
    assert "required: --config" in failure(capsys, "--workdir=x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "line 1"),
        ("config = 1\n", "KeyError: 'get_config'; it must define get_config()"),
        ("def get_config():\n    return 3\n", "it must define get_config()"),
        ("\ndef get_config():\n    return unknown\n", "line 3: NameError: name 'unknown'"),
        ("import no_such_package\n", "line 1: ModuleNotFoundError"),
        ("\x00", "it must define get_config()"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("def get_config():\n    pass\n", "get_config() returned nothing"),
        ("def get_config(one):\n    pass\n", "missing 1 required positional argument"),
        ("def get_config():\n    return {1: 2}\n", "wanted names that are text, got 1"),
        ("def get_config():\n    c = {}\n    c['a'] = c\n    return c\n", "RecursionError"),
        (
            "from ml_collections import ConfigDict, config_dict as c\n"
            "def get_config():\n    return ConfigDict({'name': c.required_placeholder(str)})\n",
            "RequiredValueError",
        ),
    ],
)
def test_a_broken_configuration_names_file_and_reason(capsys, here, text, message):
    (here / "broken.py").write_text(text)
    found = failure(capsys, "--config=broken.py")
    assert "configuration" in found
    assert message in found


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("training.learning_rate=-0.5", "training.learning_rate", -0.5),
        ("seeds=5", "seeds", 5),
        ("name=", "name", ""),
        ("name=5", "name", "5"),
        ("name=a=b", "name", "a=b"),
        ("training.milestones=(60, 120)", "training.milestones", (60, 120)),
        ("training.milestones=[60]", "training.milestones", (60,)),
        ("training.milestones=60,120", "training.milestones", (60, 120)),
        ("training.milestones=()", "training.milestones", ()),
        ("model.bfloat16=True", "model.bfloat16", True),
        ("data.data_dir=/some/where", "data.data_dir", "/some/where"),
        ("data.data_dir=None", "data.data_dir", None),
        ("data.data_dir=2024", "data.data_dir", "2024"),
        ("data.limit=1e2", "data.limit", 100),
        ("training.momentum=0.8", "training.momentum", 0.8),
        ("model.options={'widths': (8, 16)}", "model.options", {"widths": (8, 16)}),
        ("model.options.widths=[8, 16]", "model.options.widths", (8, 16)),
        ("unlearning.momentum=1", "unlearning.momentum", 1.0),
        ("forget.classes=(3,)", "forget.classes", (3,)),
        ("forget.center=median", "forget.center", "median"),
        ("bank.checkpoints=true", "bank.checkpoints", True),
        ("attack.samples=None", "attack.samples", None),
        ("tuning.adopt=False", "tuning.adopt", False),
        ("tuning.seeds=(7, 8)", "tuning.seeds", (7, 8)),
        ("tuning.grids.finetune.epochs=(1, 2)", "tuning.grids.finetune.epochs", (1, 2)),
        ("tuning.criterion=validation", "tuning.criterion", "validation"),
        ("audit.methods=one,two", "audit.methods", ("one", "two")),
        ("audit.share=0.5", "audit.share", 0.5),
        ("audit={'models': 64}", "audit", {"models": 64}),
        ("study=None", "study", None),
        ("training.milestones=60", "training.milestones", (60,)),
        ("forget.classes=('3-5',)", "forget.classes", ("3-5",)),
        ("forget.classes=3,Bag", "forget.classes", (3, "Bag")),
        ("study.kind=difficulty", "study.kind", "difficulty"),
        ("scores.memorization.path=~/x.npz", "scores.memorization.path", "~/x.npz"),
        ("scores.own.mine=package:score", "scores.own.mine", "package:score"),
        ("measures.mine=package:measure", "measures.mine", "package:measure"),
        ("methods.v1.0.select.all.epochs=3.0", "methods.v1|0.select.all.epochs", 3),
        ("methods.own.select.all.strength=3", "methods.own.select.all.strength", 3),
        ("cases.one.forget.size=7", "cases.one.forget.size", 7),
    ],
)
def test_an_override_has_the_type_that_its_option_wants(made_up, override, key, value):
    changed = launch.configuration(made_up, [f"--config.{override}"])
    *sections, last = (name.replace("|", ".") for name in key.split("."))
    place, untouched = changed, launch.configuration(made_up)
    other = untouched
    for section in sections:
        place, other = place[section], other.setdefault(section, {})
    assert place[last] == value
    assert type(place[last]) is type(value)
    # Nothing else is changed by it.
    other[last] = place[last]
    assert changed == untouched


@pytest.mark.parametrize(
    ("overrides", "section"),
    [
        (["by=file", "path=ids.txt"], {"by": "file", "path": "ids.txt"}),
        (["path=ids.txt", "by=file"], {"by": "file", "path": "ids.txt"}),
        (["by=examples", "examples=3,50"], {"by": "examples", "examples": (3, 50)}),
        (["by=random"], {"by": "random", "size": 200}),
        (["by=c_proxy"], {"by": "c_proxy", "size": 200}),
        (["by=mine:every", "step=7"], {"by": "mine:every", "step": 7}),
    ],
)
def test_another_way_to_choose_a_forget_set_leaves_the_options_of_the_first(overrides, section):
    arguments = [f"--config.forget.{override}" for override in overrides]
    assert launch.configuration("fashion_mnist_rum.py", arguments)["forget"] == section


def test_the_last_of_several_overrides_counts(made_up):
    found = launch.configuration(made_up, ["--config.seeds=4", "--config.seeds=5"])
    assert found["seeds"] == 5


def test_what_is_configured_is_plain(made_up):
    found = launch.configuration(made_up)
    assert type(found) is type(found["data"]) is dict
    assert launch.plain({"a": [1, {"b": [2]}]}) == {"a": (1, {"b": (2,)})}


def test_every_shipped_configuration_is_listed_and_read():
    names = launch.known_configurations()
    assert {"fashion_mnist_rum.py", "cifar10_rum.py"} <= set(names)
    for name in names:
        found = launch.configuration(name)["name"]
        assert found in (name.removesuffix(".py"), f"fashion_mnist_mini_{name.removesuffix('.py')}")


@pytest.mark.parametrize("study", ["difficulty", "refinement", "proxies", "requests"])
def test_a_study_takes_its_setting_after_a_colon(study):
    assert launch.configuration(f"{study}.py:cifar100")["name"] == f"cifar100_{study}"
    with pytest.raises(InvalidInputError, match="cifar100"):
        launch.configuration(f"{study}.py:cifar101")


def test_an_interruption_is_no_error(capsys):
    def body(argv, console):
        raise KeyboardInterrupt

    assert launch.guarded(body, []) == 130
    assert "start the same command again" in capsys.readouterr().err


def test_defects_keep_their_traceback():
    def body(argv, console):
        raise KeyError("a defect")

    with pytest.raises(KeyError, match="a defect"):
        launch.guarded(body, [])


def test_long_messages_and_brackets_come_out_as_they_are(capsys):
    message = "[red]a[/red] " + "/path" * 60

    def body(argv, console):
        raise InvalidInputError(message)

    assert launch.guarded(body, []) == 1
    assert message in capsys.readouterr().err


def test_devices_settled_earlier_are_left_alone():
    count = jax.local_device_count()
    devices.settle(count + 1)
    assert jax.local_device_count() == count
