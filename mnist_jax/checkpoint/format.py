"""Computes what is saved beside the weights, so that damaged ones are never loaded.

Orbax loads flipped bits without an error. So the metadata of a checkpoint has the
SHA-256 of each array, and a SHA-256 of the metadata itself: its seal. Digests are of
arrays in the host's memory, so that they do not depend on kind or number of devices.
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

    It is the same for equal arrays on any devices, and for dicts and dataclasses.
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
    """Returns a copy on the host, which donating `leaf` cannot change.

    Of a random key it returns the data, an array of integers.
    """
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def describe(leaf: jax.Array, host: np.ndarray) -> dict[str, Any]:
    """Returns what the metadata says about a leaf; `host` is `to_host(leaf)`."""
    entry = {"type": _type(leaf), "sha256": digest(host)}
    if _is_key(leaf):
        entry["key_impl"] = str(jax.random.key_impl(leaf))
    return entry


def place(host: np.ndarray, leaf: Any, entry: dict[str, Any]) -> jax.Array:
    """Puts a restored array onto the devices of the template's `leaf`."""
    # If the leaf is not committed to a device, the array must not be either, because
    # jit would compile once more for it.
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
    """Returns metadata as it is after a round trip through JSON, with its SHA-256."""
    text = json.dumps(metadata, sort_keys=True)
    return {**json.loads(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def versions() -> dict[str, str]:
    """Returns the versions of Python and the packages that make a checkpoint."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    own = {"python": platform.python_version(), "mnist_jax": mnist_jax.__version__}
    return packages | own
