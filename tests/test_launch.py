"""The command line: configurations, overrides, and one message for each mistake."""

import pytest

from rumjax import launch
from rumjax.errors import InvalidInputError

CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "made_up"
    config.seeds = 3
    config.data = {"name": "npz", "data_dir": None}
    config.training = {"learning_rate": 0.1, "milestones": (1, 2), "bfloat16": False}
    return config
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working directory, and devices that launch cannot change for other tests."""
    launch.jax.local_devices()
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


@pytest.mark.parametrize("name", ["fashion_mnist_rumm.py", "/no/where.py", "", "."])
def test_an_unknown_configuration_lists_those_there_are(capsys, name):
    message = failure(capsys, f"--config={name}")
    assert f"unknown configuration {name!r}" in message
    assert "fashion_mnist_rum.py" in message
    assert ("did you mean 'fashion_mnist_rum.py'" in message) == name.startswith("fashion")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.seds=5"], "unknown override 'seds'; did you mean 'seeds'?"),
        (["--config.training.learning_rte=5"], "did you mean 'training.learning_rate'?"),
        (["--config.training=5"], "unknown override 'training'"),
        (["--config.name.first=5"], "unknown override 'name.first'"),
        (["--config.seeds=many"], "override seeds: wanted int like 3, got 'many'"),
        (["--config.seeds=2.5"], "wanted int like 3, got '2.5'"),
        (["--config.seeds=True"], "wanted int like 3, got 'True'"),
        (["--config.seeds="], "wanted int like 3, got ''"),
        (["--config.training.learning_rate=fast"], "wanted float like 0.1, got 'fast'"),
        (["--config.training.learning_rate=True"], "wanted float like 0.1, got 'True'"),
        (["--config.training.bfloat16=1"], "wanted bool like False, got '1'"),
        (["--config.training.milestones=60"], "wanted tuple like (1, 2), got '60'"),
        (["--config.seeds"], "argument '--config.seeds': overrides look like --config.seeds=5"),
        (["--config.seeds", "5"], "argument '--config.seeds'"),
        (["--seeds=5"], "argument '--seeds=5': overrides look like"),
        (["stray"], "argument 'stray': overrides look like"),
        (["--workdr=x"], "argument '--workdr=x': overrides look like"),
        (["--cpu_devices=0"], "--cpu_devices: wanted a whole number of at least 1, got 0"),
        (["--cpu_devices=two"], "invalid int value: 'two'"),
        ([], "the configuration lacks attack, bank, forget"),
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
    ],
)
def test_a_broken_configuration_names_file_and_reason(capsys, here, text, message):
    (here / "broken.py").write_text(text)
    found = failure(capsys, "--config=broken.py")
    assert "configuration broken.py" in found
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
        ("training.bfloat16=True", "training.bfloat16", True),
        ("data.data_dir=/some/where", "data.data_dir", "/some/where"),
        ("data.data_dir=None", "data.data_dir", None),
    ],
)
def test_an_override_has_the_type_of_what_it_replaces(made_up, override, key, value):
    found = dict(launch.leaves(launch.configuration(made_up, [f"--config.{override}"])))
    assert found[key] == value
    assert type(found[key]) is type(value)
    untouched = dict(launch.leaves(launch.configuration(made_up)))
    assert {k: v for k, v in found.items() if k != key} == {
        k: v for k, v in untouched.items() if k != key
    }


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
    devices = launch.jax.local_device_count()
    launch.settle(devices + 1)
    assert launch.jax.local_device_count() == devices
