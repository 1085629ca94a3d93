"""What is exported of a trained model: a function of bytes, and what it means."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import mnist_jax
from mnist_jax.checkpoint.load import Loaded
from mnist_jax.datasets.offline_digits import load_digits
from mnist_jax.errors import ConfigError
from mnist_jax.models.page_net import SIDE
from mnist_jax.reading.page_points import are_peaks, decode_boxes
from mnist_jax.reading.page_reader import READ, READ_SHARE
from mnist_jax.reading.page_task import is_page_net

INPUT = "images"
_PAGE_SHAPES = ((64, 128), (96, 160))  # pages that a page net is checked on

_LIKE_MNIST = (
    "One {what} in each image: light ink (255) on black (0), 28x28 pixels. As in "
    "MNIST, the longer side of a digit is 20 pixels, and its centre of mass is in the "
    "middle. The model scales the bytes itself."
)
_AS_TRAINED = (
    "Images as those of {dataset}, which it was trained on, as bytes. The model scales "
    "them itself."
)
_PAGE = (
    "Grey pictures of pages, dark on light or light on dark, as bytes. Height and "
    f"width are multiples of {SIDE}: fill up with the paper's grey. Digits may be 10 "
    "to 100 pixels high, best 28: reduce or enlarge the picture. The model subtracts "
    "each picture's mean and divides by its deviation itself."
)
_PAGE_OUTPUTS = {
    "score": "float32 [batch, rows, columns]: the probability that a digit's centre is "
    "at this place, 4 pixels down and 2 across from one to the next; 0 beside a place "
    f"that is likelier. Above {READ:g}, and above {READ_SHARE:g} of the page's highest "
    "score, the reader of mnist_jax reads a digit.",
    "box": "float32 [batch, rows, columns, 4]: left, top, right and bottom of the "
    "digit, in pixels.",
    "classes": "float32 [batch, rows, columns, classes]: the probability of each "
    "class, if there is a digit.",
}


class PortableNetwork(NamedTuple):
    """A model as a function of bytes.

    Attributes:
      function: maps uint8 [batch, ...] to a dict of float32 arrays.
      input_shape: such as "batch, 28, 28, 1"; names are sizes that are open.
      examples: what it is checked on: uint8 arrays, of several batch sizes.
      example_name: what these show, such as "real digits".
      metadata: what the user of a file must know: texts by what they are about.
    """

    function: Callable[[jax.Array], dict[str, jax.Array]]
    input_shape: str
    examples: tuple[np.ndarray, ...]
    example_name: str
    metadata: Mapping[str, str]


def make_portable(loaded: Loaded) -> PortableNetwork:
    """Returns the network of a trained model.

    A model that tells classes apart gives `probabilities`, divided by its temperature.
    A page net gives `score`, `box` and `classes` of each place of a page.

    Args:
      loaded: from `checkpoint.load.load_model`; also an ensemble, or averaged views.

    Raises:
      ConfigError: it learned a task whose outputs are unknown here.
    """
    if is_page_net(loaded):
        return _of_page_net(loaded)
    if not loaded.task.has_logits:
        raise ConfigError(
            f"a model of config.task = {loaded.config.task!r} can be exported with "
            "--format=weights alone: what its outputs mean is known to that task only"
        )

    def probabilities(images: jax.Array) -> dict[str, jax.Array]:
        logits = _apply(loaded, images)
        return {"probabilities": jax.nn.softmax(logits / loaded.temperature)}

    shape = loaded.task.image_shape
    names: list[str] = loaded.metadata["dataset"]["class_names"]
    dataset = loaded.metadata["dataset"]["name"]
    is_digits = list(names) == list("0123456789") and shape == (28, 28, 1)
    like_mnist = is_digits or dataset.startswith(("emnist", "kmnist"))
    text = _LIKE_MNIST if like_mnist else _AS_TRAINED
    sizes = ", ".join(map(str, shape))
    metadata = {
        **_describe(loaded),
        "preparation": text.format(
            what="digit" if is_digits else "sign", dataset=dataset
        ),
        "input": f"{INPUT}: uint8 [batch, {sizes}]",
        "output": f"probabilities: float32 [batch, {len(names)}], in the order of "
        "`classes`; each row sums to 1, and its largest is an honest confidence",
        "temperature": repr(loaded.temperature),
    }
    return PortableNetwork(
        probabilities, f"batch, {sizes}", *_example_images(shape), metadata
    )


def _of_page_net(loaded: Loaded) -> PortableNetwork:
    def places(images: jax.Array) -> dict[str, jax.Array]:
        return decode_places(_apply(loaded, images))

    outputs = "; ".join(f"{name}: {text}" for name, text in _PAGE_OUTPUTS.items())
    metadata = {
        **_describe(loaded),
        "preparation": _PAGE,
        "input": f"{INPUT}: uint8 [batch, height, width, 1]",
        "output": outputs,
    }
    shape = f"batch, {SIDE}*rows, {SIDE}*columns, 1"
    examples = _example_pages()
    return PortableNetwork(places, shape, examples, "pages of real digits", metadata)


def decode_places(outputs: jax.Array) -> dict[str, jax.Array]:
    """Turns the outputs of a page net into what they mean.

    Args:
      outputs: of `PageNet`, float32 [B, h, w, 5 + C].

    Returns:
      `score` float32 [B, h, w], 0 where a place nearby is likelier; `box` float32 [B,
      h, w, 4], left, top, right and bottom in pixels; `classes` float32 [B, h, w, C].
    """
    logits = outputs[..., 0]
    score = jnp.where(are_peaks(logits), jax.nn.sigmoid(logits), 0.0)
    down = lax.broadcasted_iota(jnp.float32, logits.shape, 1)
    across = lax.broadcasted_iota(jnp.float32, logits.shape, 2)
    found = decode_boxes(outputs, across, down)
    centre, half = found[..., :2], found[..., 2:] / 2
    box = jnp.concatenate([centre - half, centre + half], -1)
    return {"score": score, "box": box, "classes": jax.nn.softmax(outputs[..., 5:])}


def _apply(loaded: Loaded, images: jax.Array) -> Any:
    prepared = loaded.task.prepare(images)
    return loaded.model.apply(loaded.variables, prepared, train=False)


def _describe(loaded: Loaded) -> dict[str, str]:
    dataset = loaded.metadata["dataset"]
    return {
        "classes": json.dumps(list(dataset["class_names"])),
        "dataset": dataset["name"],
        "model": loaded.config.model.name,
        "step": str(loaded.step),
        "mnist_jax": mnist_jax.__version__,
    }


def _example_images(shape: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], str]:
    """Real digits, one and many; of other shapes than theirs, noise."""
    if shape == (28, 28, 1):
        images = load_digits()[0]
        return (images[:1], images[1:200]), "real digits"
    noise = np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8)
    return (noise[:1], noise[1:]), "images of noise"


def _example_pages() -> tuple[np.ndarray, ...]:
    """Pages of several sizes with real digits in rows, dark on light."""
    digits, pages = iter(load_digits()[0][..., 0]), []
    for count, (height, width) in enumerate(_PAGE_SHAPES, 1):
        sheet = np.zeros((count, height, width), np.uint8)
        for page in sheet:
            for top in range(2, height - 28, 30):
                for left in range(2, width - 28, 30):
                    page[top : top + 28, left : left + 28] = next(digits)
        pages.append((230 - 0.8 * sheet).astype(np.uint8)[..., None])
    return tuple(pages)
