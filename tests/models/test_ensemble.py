import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from model_configs import model_config

from mnist_jax.models.create import create_model
from mnist_jax.models.ensemble import Ensemble, for_prediction

IMAGES = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))


def test_moved_views_are_averaged():
    net = create_model(model_config("mlp"), 10)
    variables = net.init(jax.random.key(0), IMAGES)
    model = for_prediction(net, ConfigDict({"test_time_shift": 2}))
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (2, 2), (0, 0)])
    moves = [(2, 2), (0, 2), (4, 2), (2, 0), (2, 4)]
    views = [padded[:, y : y + 28, x : x + 28] for y, x in moves]
    each = [jax.nn.log_softmax(net.apply(variables, view)) for view in views]
    expected = np.mean(each, axis=0)
    np.testing.assert_allclose(model.apply(variables, IMAGES), expected, rtol=1e-5)
    several = jax.tree.map(lambda v: jnp.stack([v, v]), variables)
    both = Ensemble(model).apply(several, IMAGES)
    np.testing.assert_allclose(both, jax.nn.log_softmax(expected), rtol=1e-5)


def test_a_config_of_before_there_were_moved_views_has_none():
    net = create_model(model_config("mlp"), 10)
    assert for_prediction(net, ConfigDict({})) is net
    assert for_prediction(net, ConfigDict({"test_time_shift": 0})) is net
