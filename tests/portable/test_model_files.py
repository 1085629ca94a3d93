import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import full_disk
from jax import export
from model_configs import model_config

from mnist_jax.checkpoint.load import Loaded, load_model
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.models.create import MODELS, create_model
from mnist_jax.models.ensemble import Ensemble, MovedViews
from mnist_jax.portable import model_files
from mnist_jax.portable.model_files import metadata_path, write_onnx, write_stablehlo
from mnist_jax.portable.network import make_portable
from mnist_jax.run.config_files import PRETRAINED_PAGES
from mnist_jax.tasks import DIGITS

WRITERS = {"onnx": write_onnx, "stablehlo": write_stablehlo}
FORMS = pytest.mark.parametrize("form", WRITERS)


def make_loaded(config, name, members=1, shift=0):
    """A model that was not trained."""
    net = create_model(config, 10)
    keys = jax.random.split(jax.random.key(3), members)
    variables = jax.vmap(lambda key: net.init(key, jnp.zeros((1, 28, 28, 1))))(keys)
    member = MovedViews(net, shift) if shift else net
    if members == 1:
        model, variables = member, jax.tree.map(lambda x: x[0], variables)
    else:
        model = Ensemble(member)
    about = {"dataset": {"name": name, "class_names": list("0123456789")}}
    from ml_collections import ConfigDict

    run = ConfigDict({"model": config, "task": "digits"})
    metadata = {**about, "temperature": 1.7}
    return Loaded(run, model, variables, metadata, 5, DIGITS)


CASES = {
    **{name: functools.partial(make_loaded, model_config(name)) for name in MODELS},
    "normed": functools.partial(make_loaded, model_config(batch_norm=True)),
    "contrast": functools.partial(
        make_loaded, model_config(even_contrast=True, padding="SAME")
    ),
    "moved": functools.partial(make_loaded, model_config("tiny"), shift=1),
    "ensemble": functools.partial(make_loaded, model_config(), members=3),
    "moved ensemble": functools.partial(
        make_loaded, model_config("sprint"), members=2, shift=1
    ),
}


@FORMS
@pytest.mark.parametrize("name", CASES)
def test_every_model_is_exported(name, form, tmp_path):
    network = make_portable(CASES[name]("mnist"))
    path = tmp_path / "model"
    assert 0 <= WRITERS[form](network, path) < 1e-5
    assert path.stat().st_size > 1000


@FORMS
def test_a_page_net_is_exported(form, tmp_path):
    network = make_portable(load_model(PRETRAINED_PAGES))
    assert network.example_name == "pages of real digits"
    assert 0 <= WRITERS[form](network, tmp_path / "page") < 1e-4
    if form == "stablehlo":
        about = json.loads(metadata_path(tmp_path / "page").read_text())
        assert "multiples of 16" in about["preparation"]
        loaded = export.deserialize(bytearray((tmp_path / "page").read_bytes()))
        shapes = [str(aval.shape) for aval in loaded.out_avals]
        assert "(batch, 4*rows, 8*columns, 4)" in shapes


@FORMS
def test_a_file_that_differs_is_not_written(form, tmp_path, monkeypatch):
    network = make_portable(CASES["mlp"]("mnist"))
    monkeypatch.setattr(model_files, "MOST_DIFFERENCE", -1.0)
    (tmp_path / "model").write_bytes(b"of before")
    with pytest.raises(UserError, match=r"differs by .* nothing was written"):
        WRITERS[form](network, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_bytes() == b"of before"


def test_nan_is_a_difference(tmp_path):
    network = make_portable(CASES["mlp"]("mnist"))
    broken = network._replace(
        function=lambda images: {"probabilities": images[:, 0, 0] * jnp.nan}
    )
    with pytest.raises(UserError, match="differs by nan"):
        write_onnx(broken, tmp_path / "model")


@FORMS
def test_a_model_that_cannot_be_exported_is_one_line(form, tmp_path):
    def odd(images):
        if form == "stablehlo":
            raise TypeError("of\nmy own")
        return {"probabilities": jnp.sort(images.reshape(images.shape[0], -1))}

    network = make_portable(CASES["mlp"]("mnist"))._replace(function=odd)
    told = "form here for the operation sort" if form == "onnx" else "of my own"
    with pytest.raises(ConfigError, match=told) as caught:
        WRITERS[form](network, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_onnx_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"\(onnxruntime\): pip install onnx"):
        write_onnx(make_portable(CASES["mlp"]("mnist")), tmp_path / "model")


@FORMS
def test_a_full_disk_leaves_the_old_file(form, tmp_path):
    network = make_portable(CASES["mlp"]("mnist"))
    (tmp_path / "model").write_bytes(b"of before")
    WRITERS[form](network, tmp_path / "other")  # what is compiled is in JAX's cache
    for path in tmp_path.glob("other*"):
        path.unlink()
    with full_disk(), pytest.raises(OSError):
        WRITERS[form](network, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"of before"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_metadata_of_onnx_are_in_the_file(tmp_path):
    import onnx

    network = make_portable(CASES["mlp"]("mnist"))
    write_onnx(network, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    found = {prop.key: prop.value for prop in model.metadata_props}
    assert found == network.metadata
    (shape,) = [x.type.tensor_type.shape for x in model.graph.input]
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", 28, 28, 1]
    assert np.prod([d.dim_value or 1 for d in shape.dim]) == 784
