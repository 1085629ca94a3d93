import inspect

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict
from model_configs import model_config

from mnist_jax.errors import ConfigError
from mnist_jax.models.create import MODELS, create_model

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_classes", [10, 26])
def test_logits_have_a_column_for_each_class(name, num_classes):
    model = create_model(model_config(name), num_classes)
    variables = model.init(jax.random.key(0), IMAGES)
    logits = model.apply(variables, IMAGES)
    assert logits.shape == (3, num_classes)
    assert logits.dtype == jnp.float32
    stats = {"batch_stats"} if name == "sprint" else set()
    assert set(variables) == {"params"} | stats


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (model_config("sprint", filters=26), "filters must be from 1 to filter_size"),
        (model_config("sprint", depths=(0,)), "depths must have a whole number of 1"),
        (model_config("sprint", depths=(1, 2)), "depths must have a whole number of 1"),
        (model_config("sprint", depths="two"), "depths must have a whole number of 1"),
        (model_config("sprint", depths=(2.5,)), "depths must have a whole number of 1"),
        (model_config("vgg", depths=(1, -1)), "depths must have a whole number of 1"),
        (model_config("vgg", depths=(1,)), "depths must have a whole number of 1"),
        (ConfigDict({"name": "cnnn", "kwargs": {}}), "did you mean 'cnn'"),
        (model_config(depth=3), "kwargs.depth is unknown for 'cnn'; it takes: batch"),
        (ConfigDict({"name": "mlp", "kwargs": {"dense": ()}}), "dropout is missing"),
        (model_config(kernel_size=30), "no working 'cnn': kernel"),
        (model_config(padding="FULL"), "padding must be 'VALID' or 'SAME'"),
        (model_config(features="many"), "no working 'cnn'"),
        (model_config(dropout=1.0), "dropout must be from 0 to below 1"),
        (model_config(dropout=-0.5), "dropout must be from 0 to below 1"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        create_model(config, 10)
    assert "\n" not in str(caught.value)


def test_a_layer_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="make no working 'cnn'"):
        create_model(model_config(dense=(0,)), 10)


NET = """
import flax.linen as nn

CALLS = []


class Net(nn.Module):
    num_classes: int
    width: int = 3

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dense(self.width)(images.reshape(len(images), -1))
        return nn.Dense(self.num_classes)(x)


class NoLinen:
    num_classes: int

    def __init__(self, **kwargs):
        CALLS.append(kwargs)


class NoClasses(nn.Module):
    pass


def build(**kwargs):
    CALLS.append(kwargs)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "package_of_a_user"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "net.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    return "package_of_a_user.net"


def test_a_model_of_another_package(package):
    config = ConfigDict({"name": f"{package}:Net", "kwargs": {"width": 4}})
    model = create_model(config, 5, image_shape=(6, 7, 2))
    images = jnp.zeros((2, 6, 7, 2))
    variables = model.init(jax.random.key(0), images)
    assert model.apply(variables, images).shape == (2, 5)
    assert variables["params"]["Dense_0"]["kernel"].shape == (6 * 7 * 2, 4)
    config.kwargs = {"depth": 4}
    with pytest.raises(ConfigError, match=r"depth is unknown .* it takes: width"):
        create_model(config, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (":NoLinen", "is no class of linen modules"),
        (":build", "is no class of linen modules"),
        (":CALLS", "is a list, which cannot be called"),
        (":NoClasses", "has no field num_classes"),
        (":Other", "cannot be imported"),
        ("_of_nobody:Net", "cannot be imported"),
    ],
)
def test_nothing_but_a_linen_class_is_called(package, name, message):
    config = ConfigDict({"name": package + name, "kwargs": {}})
    with pytest.raises(ConfigError, match=f"config.model.name = .* {message}"):
        create_model(config, 10)
    import package_of_a_user.net

    assert package_of_a_user.net.CALLS == []


def test_models_name_only_the_arguments_that_they_use():
    named = {
        name: set(inspect.signature(model.__call__).parameters)
        for name, model in MODELS.items()
    }
    with_mask = {name for name, names in named.items() if "mask" in names}
    assert with_mask == {"cnn", "sprint"}
    assert all({"images", "train"} <= names for names in named.values())


def test_models_of_images_of_another_size():
    for name in MODELS:
        model = create_model(model_config(name), 10, image_shape=(32, 32, 1))
        images = jnp.zeros((2, 32, 32, 1))
        variables = model.init(jax.random.key(0), images)
        assert model.apply(variables, images).shape == (2, 10)
