"""Makes files of a network, and runs each on examples before it is written."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from mnist_jax.checkpoint.atomic import atomic_file
from mnist_jax.errors import ConfigError, UserError
from mnist_jax.portable.network import INPUT, PortableNetwork

MOST_DIFFERENCE = 1e-4
PLATFORMS = ("cpu", "cuda", "tpu")
_MOST_BYTES = 2**31 - 2**20  # that a file of ONNX may have

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def write_onnx(network: PortableNetwork, path: Path) -> float:
    """Writes a network as an ONNX file, with its metadata in it.

    Args:
      network: from `network.make_portable`.
      path: of the file; a file that is there is replaced.

    Returns:
      The largest difference between what onnxruntime and JAX give for the examples.

    Raises:
      ConfigError: ONNX is not installed, or cannot express the network.
      UserError: the difference is above `MOST_DIFFERENCE`. Nothing is written.
      OSError: the file cannot be written.
    """
    check_onnx()
    import onnxruntime

    from mnist_jax.portable.onnx_graph import Unsupported, size_in_bytes
    from mnist_jax.portable.onnx_model import to_onnx

    with _one_line("ONNX"):
        try:
            inputs = {INPUT: _open_input(network)}
            model = to_onnx(network.function, inputs, network.metadata)
        except Unsupported as error:
            raise ConfigError(
                f"this model cannot be exported as ONNX, which has no form here for "
                f"{error}; --format=stablehlo takes every model"
            ) from error
        if size_in_bytes(model) > _MOST_BYTES:
            raise ConfigError("this model is too large for one file of ONNX, of 2 GB")
        content = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it raises what it also prints
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]

        def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
            return dict(zip(names, session.run(names, {INPUT: images}), strict=True))

        difference = _compare(network, run)
    with atomic_file(path) as file:
        file.write(content)
    return difference


def write_stablehlo(network: PortableNetwork, path: Path) -> float:
    """Writes a network as StableHLO, for `PLATFORMS`, and its metadata beside it.

    `jax.export.deserialize` reads the file. Its `mlir_module_serialized` is the
    StableHLO itself, for programs without JAX. The metadata are in a JSON file of that
    name and `.json`.

    Arguments, result and errors are those of `write_onnx`.
    """
    from jax import export

    with _one_line("StableHLO"):
        exported = export.export(jax.jit(network.function), platforms=PLATFORMS)(
            _open_input(network)
        )
        content = bytes(exported.serialize())
        again = export.deserialize(bytearray(content))

        def run(images: np.ndarray) -> Mapping[str, np.ndarray]:
            return {k: np.asarray(v) for k, v in again.call(images).items()}

        difference = _compare(network, run)
    about = (json.dumps(network.metadata, indent=2) + "\n").encode()
    with atomic_file(path) as file, atomic_file(metadata_path(path)) as note:
        note.write(about)
        file.write(content)
    return difference


def metadata_path(path: Path) -> Path:
    """Returns where the metadata of a StableHLO file stand."""
    return path.with_name(f"{path.name}.json")


def check_onnx() -> None:
    """Raises a `ConfigError` if the packages that ONNX needs are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format=onnx needs a package that is not here ({error.name}): "
            "pip install onnx onnxruntime"
        ) from error


def _open_input(network: PortableNetwork) -> jax.ShapeDtypeStruct:
    from jax import export

    shape = export.symbolic_shape(network.input_shape)
    return jax.ShapeDtypeStruct(shape, np.uint8)


def _compare(network: PortableNetwork, run: Run) -> float:
    """Returns the largest difference between a file and the model itself.

    Boxes are compared as shares of the picture's longer side.

    Raises:
      UserError: it is above `MOST_DIFFERENCE`, or no number.
    """
    function, largest = jax.jit(network.function), 0.0
    for images in network.examples:
        ours, theirs = function(images), run(images)
        for name, value in ours.items():
            scale = max(images.shape[1:3]) if name == "box" else 1
            value, other = np.asarray(value), theirs[name]
            if value.shape != other.shape:
                raise UserError(f"the exported model gives {name} {other.shape}")
            away = np.abs(value - other).max() / scale
            largest = float(np.maximum(largest, away))  # NaN stays
    if not largest <= MOST_DIFFERENCE:
        raise UserError(
            f"the exported model differs by {largest:.1e} from the model itself, and "
            f"{MOST_DIFFERENCE:.0e} is allowed: nothing was written"
        )
    return largest


@contextlib.contextmanager
def _one_line(form: str) -> Iterator[None]:
    """Turns what JAX or onnxruntime raise for a model into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a user's model may do anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"this model cannot be exported as {form}: {reason[:200]}"
        ) from error
