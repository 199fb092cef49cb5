"""A model that was trained without rumjax, with its images and its configuration."""

import pytest

from tests.lab.forgetting import offices


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    """A folder to be looked at and not to be changed."""
    folder = tmp_path_factory.mktemp("foreign")
    offices.write_data(folder / "data.npz")
    offices.train(folder / "model.msgpack", folder / "data.npz")
    offices.write_config(folder)
    return folder
