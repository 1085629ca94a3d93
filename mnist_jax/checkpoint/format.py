"""What is written beside the weights, so that none is ever read that was not saved.

Orbax loads flipped bits without a word. So each array's SHA-256 stands in the metadata
of its checkpoint, and the metadata has one of its own: a seal. Arrays are those of the
host's memory, as a checkpoint depends on no kind or number of devices.
"""

import hashlib
import importlib.metadata
import json
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mnist_jax

PyTree = Any
Metadata = dict[str, Any]

FORMAT_VERSION = 1
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def tree_digest(tree: PyTree) -> str:
    """Returns one SHA-256 (hex) over path, dtype, shape and bytes of every leaf.

    The same for equal arrays on any devices, in dicts or dataclasses.
    """
    digests = {path: digest(to_host(leaf)) for path, leaf in flatten(tree).items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def flatten(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by path, such as "params/Dense_0/kernel"."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def to_host(leaf: jax.Array) -> np.ndarray:
    """Returns a copy, which donation of `leaf` cannot change; of a key, its data."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def describe(leaf: jax.Array, host: np.ndarray) -> dict[str, Any]:
    """What the metadata says of a leaf; `host` is `to_host(leaf)`."""
    entry = {"type": _type(leaf), "sha256": digest(host)}
    if _is_key(leaf):
        entry["key_impl"] = str(jax.random.key_impl(leaf))
    return entry


def place(host: np.ndarray, leaf: Any, entry: dict[str, Any]) -> jax.Array:
    """Puts a restored array where the template's leaf is."""
    # An array that is bound to no device stays so: else jit would compile once more.
    bound = getattr(leaf, "committed", True)
    array = jax.device_put(host, getattr(leaf, "sharding", None) if bound else None)
    if "key_impl" in entry:
        array = jax.random.wrap_key_data(array, impl=entry["key_impl"])
    return array


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def types(tree: PyTree) -> dict[str, str]:
    """Returns dtype and shape of the leaves by path, such as "float32[9, 8]"."""
    return {path: _type(leaf) for path, leaf in flatten(tree).items()}


def _type(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def digest(host: np.ndarray) -> str:
    """Returns the SHA-256 (hex) of an array: of dtype, shape and bytes."""
    return hashlib.sha256(_type(host).encode() + host.tobytes()).hexdigest()


def seal(metadata: Metadata) -> Metadata:
    """Returns metadata as JSON gives it back, with a SHA-256 of all the rest."""
    text = json.dumps(metadata, sort_keys=True)
    return {**json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def versions() -> dict[str, str]:
    """Returns the versions of what made a checkpoint."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"python": platform.python_version(), "mnist_jax": mnist_jax.__version__}
    return packages | own
