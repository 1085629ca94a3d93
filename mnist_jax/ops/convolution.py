"""Convolution and pooling that are fast on every backend.

GPU and TPU run XLA's native convolution. XLA's CPU backend differentiates it into a
program tens of times slower than it need be (https://github.com/jax-ml/jax/issues/12868),
so there the same functions, and their gradients, are made of forward convolutions,
matrix products, slices and sums.

`_by_platform` is the one place where the backend is chosen. It chooses when a program
is lowered, not when it is traced, so lowering for a GPU on a CPU machine is right.

What is only evaluated, and not differentiated, is native on every backend: that is
best on the CPU too, and equal to rounding.

What gave how much, in November 2026 on two cores of an AMD EPYC (Zen 5), training
`configs/seed.py` in float32, old and new in turn: max, phase and relu packed in one
integer, and the first layer's product in another order, 1.20 on one core (standard
deviation 0.04, n = 6); with parts of 32 images 1.26 (0.04, n = 6), and 1.36 on two
cores (0.05, n = 5), which share the memory's bandwidth. Tried without gain: the second
convolution in parts within itself, products with V transposed, threads bound to cores.

Reverse mode may be taken any number of times; forward mode (`jax.jvp`) raises JAX's
TypeError about `custom_vjp`. To notice NaN, look at the parameters and not only at the
loss: on the CPU `lax.reduce_window` may drop it, and relu's gradient at NaN is 0.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Arrays = tuple[jax.Array, ...]

MICRO_BATCH = 64  # images, at most

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _by_platform(
    cpu: Callable[..., Any], native: Callable[..., Any], *args: Any
) -> Any:
    """Runs `cpu(*args)` where the program is lowered for a CPU, else `native`."""
    return lax.platform_dependent(*args, cpu=cpu, default=native)


def micro_batch_size(batch_size: int, one_core: bool = False) -> int:
    """How many images at a time the gradient of a batch should be summed over.

    On the CPU so few that what is kept between the layers stays in the cache: the
    largest divisor of the batch size up to `MICRO_BATCH`. Elsewhere the whole batch.

    Args:
      batch_size: of the batch, or of the shard of it that a device has.
      one_core: whether devices are cores, which have less cache each: half as many.
    """
    if jax.default_backend() != "cpu":
        return batch_size
    most = MICRO_BATCH // 2 if one_core else MICRO_BATCH
    divisors = (n for n in range(most, 0, -1) if batch_size % n == 0)
    return next((n for n in divisors if n >= most // 4), batch_size)


def compiler_options(one_core: bool = False) -> dict[str, Any] | None:
    """Options for `jax.jit` of a program of these operations; None for the defaults.

    Args:
      one_core: whether devices are cores. Splitting each operation over all the cores
        would then make the devices wait for each other.
    """
    if jax.default_backend() != "cpu":
        return None
    # Where the processor has them; by itself XLA uses vectors of half that width.
    options: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}
    return {**options, "xla_cpu_multi_thread_eigen": False} if one_core else options


def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, padding: str
) -> jax.Array:
    """Convolution with stride 1.

    Args:
      x: [B, H, W, Cin].
      kernel: [kh, kw, Cin, Cout], of the same floating dtype.
      bias: [Cout], or None.
      padding: "VALID" or "SAME".

    Returns:
      [B, H', W', Cout]; H' = H - kh + 1 for "VALID" and H for "SAME".

    Raises:
      ValueError: unknown padding, or shapes that do not fit.
    """
    y = _conv(_pad_for(x, kernel, padding), kernel)
    return y if bias is None else y + bias


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
    """Max over windows of `window` x `window` that do not overlap.

    A last row or column that fills no window is dropped, as with "VALID" padding. Of
    equal maxima the first gets the gradient, as with `lax.reduce_window`.

    Args:
      x: [B, H, W, C].
      window: height, width and stride of a window.

    Returns:
      [B, H // window, W // window, C].
    """
    return _max_pool(x, window)


def conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str, window: int = 2
) -> jax.Array:
    """`max_pool(relu(conv(x, kernel, bias, padding)), window)`, with less work.

    Adding a bias and relu keep the order of values, so they may follow the pooling,
    where there are 1 / window² as many; and what the pooling drops is not computed.

    Args and raises as for `conv` and `max_pool`.

    Returns:
      [B, H' // window, W' // window, Cout].
    """
    return _conv_relu_pool(_pad_for(x, kernel, padding), kernel, bias, window)


def crop_unseen(
    x: jax.Array, kernel_size: int, padding: str, stages: int, window: int = 2
) -> jax.Array:
    """Drops the last rows and columns, which no stage of `conv_relu_pool` would use.

    With "VALID" padding the result of the stages stays the same, for less work: two
    stages of 3x3 see 26x26 of an image of 28x28. With "SAME" padding x is returned.

    Args:
      x: [B, H, W, C].
      kernel_size: height and width of every stage's kernel.
      padding: "VALID" or "SAME".
      stages: how many stages of convolution and pooling follow.
      window: of the pooling.
    """
    if padding == "SAME":
        return x

    def seen(size: int) -> int:
        for _ in range(stages):
            size = (size - kernel_size + 1) // window
        for _ in range(stages):
            size = size * window + kernel_size - 1
        return size

    return x[:, : seen(x.shape[1]), : seen(x.shape[2])]


def _pad_for(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    """Checks the arguments of a convolution, and makes its padding explicit."""
    if padding not in ("VALID", "SAME"):
        raise ValueError(f"padding must be 'VALID' or 'SAME', not {padding!r}")
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            "conv takes x [B, H, W, Cin] and kernel [kh, kw, Cin, Cout], not "
            f"{x.shape} and {kernel.shape}"
        )
    if padding == "SAME":
        pads = [((k - 1) // 2, k // 2) for k in kernel.shape[:2]]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if x.shape[1] < kernel.shape[0] or x.shape[2] < kernel.shape[1]:
        raise ValueError(f"kernel {kernel.shape} is larger than x {x.shape}")
    return x


# Pooling by phases, where gradients are wanted. The phase (i, j) of an image is its
# every window-th row from i and column from j: the value at one place of every window.
# The max over windows is the max over phases, which XLA fuses into whatever made them,
# and its gradient is again elementwise; that of `lax.reduce_window` visits every window
# by itself.


def _phases(x: jax.Array, window: int) -> list[jax.Array]:
    """The window² phases [B, H // window, W // window, C] of x [B, H, W, C]."""
    height, width = (n // window * window for n in x.shape[1:3])
    return [
        x[:, i:height:window, j:width:window]
        for i in range(window)
        for j in range(window)
    ]


def _from_phases(phases: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The image of `shape` with these phases [window², ...]; 0 where it has more."""
    n, b, h, w, c = phases.shape
    window = round(n**0.5)
    x = phases.reshape(window, window, b, h, w, c).transpose(2, 3, 0, 4, 1, 5)
    x = x.reshape(b, h * window, w * window, c)
    return jnp.pad(
        x, ((0, 0), (0, shape[1] - h * window), (0, shape[2] - w * window), (0, 0))
    )


def _max_and_index(phases: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The max over phases, and the first phase (uint8) that has it."""
    best = functools.reduce(jnp.maximum, phases)
    index = jnp.full(best.shape, len(phases) - 1, jnp.uint8)
    for i in range(len(phases) - 2, -1, -1):
        index = jnp.where(phases[i] == best, jnp.uint8(i), index)
    return best, index


def _route(g: jax.Array, index: jax.Array, window: int) -> jax.Array:
    """The phases' cotangents [window², ...]: g in the phase of its max, else 0."""
    phase = jnp.arange(window**2, dtype=g.dtype).reshape(-1, *[1] * g.ndim)
    # Arithmetic, and not a select, which XLA's CPU backend does not vectorise.
    chosen = jnp.maximum(1 - jnp.abs(index.astype(g.dtype) - phase), 0)
    return chosen * g


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(x: jax.Array, window: int) -> jax.Array:
    shape = (1, window, window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, shape, shape, "VALID")


def _max_pool_fwd(x: jax.Array, window: int) -> tuple[jax.Array, Arrays]:
    y, index = _max_and_index(_phases(x, window))
    return y, (x, index)


def _max_pool_bwd(window: int, saved: Arrays, g: jax.Array) -> Arrays:
    x, index = saved
    return (_from_phases(_route(g, index, window), x.shape),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


# Convolution without padding. For y = x * kernel and the cotangent g of y, the
# gradient of x is the convolution of g with the kernel turned by 180 degrees. That of
# the kernel is a convolution of x with g, a kernel as large as the image, at which
# XLA's CPU backend is slow: there it is one product of matrices for each offset.


@jax.custom_vjp
def _conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _lax_conv(x, kernel)


def _conv_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Arrays]:
    cpu = _winograd_conv if _suits_winograd(kernel) else _lax_conv
    return _by_platform(cpu, _lax_conv, x, kernel), (x, kernel)


def _conv_bwd(saved: Arrays, g: jax.Array) -> Arrays:
    x, kernel = saved
    cpu = _winograd_conv_bwd if _suits_winograd(kernel) else _conv_bwd_cpu
    return _by_platform(cpu, _conv_bwd_native, x, kernel, g)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _lax_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=_DIMENSIONS
    )


def _conv_bwd_native(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    return jax.vjp(_lax_conv, x, kernel)[1](g)


def _conv_bwd_cpu(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    dx = _input_gradient(kernel, g)
    kh, kw, cin, cout = kernel.shape
    b, h, w, _ = g.shape
    shifted = [x[:, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]
    g = g.reshape(-1, cout)
    if cin < 8:  # one product with all the offsets side by side
        dkernel = jnp.concatenate(shifted, axis=3).reshape(b * h * w, -1).T @ g
    else:
        dkernel = jnp.concatenate([s.reshape(-1, cin).T @ g for s in shifted])
    return dx, dkernel.reshape(kernel.shape)


def _input_gradient(kernel: jax.Array, g: jax.Array) -> jax.Array:
    kh, kw = kernel.shape[:2]
    g = jnp.pad(g, ((0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1), (0, 0)))
    return _conv(g, jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3))


# Convolution, bias, relu and pooling in one. The convolution's result, the largest
# array of a network, is not kept for the gradient: where its maxima were is enough.
#
# `_pool_and_index` is the rule's forward pass. It has the same rule itself, as second
# derivatives differentiate it.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _conv_relu_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> jax.Array:
    return jax.nn.relu(_max_pool(_lax_conv(x, kernel), window) + bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _pool_and_index(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> Arrays:
    """The result, and int32: on the CPU `_pack`ed, else the phase of the max."""

    def native(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> Arrays:
        best, index = _max_and_index(_phases(_lax_conv(x, kernel), window))
        return jax.nn.relu(best + bias), index.astype(jnp.int32)

    def cpu(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> Arrays:
        if window == 2 and _suits_winograd(kernel):
            m = _winograd_products(x, _winograd_kernel(kernel))
            shape = (len(x), x.shape[1] // 2 - 1, x.shape[2] // 2 - 1, kernel.shape[3])
            packed = _in_branch(lambda: _pack(_winograd_outputs(m), bias), bias)
            packed = packed.reshape(shape)
        elif kernel.shape[2] == 1:
            packed = _in_branch(
                lambda: _pack(_grey_phases(x, kernel, window), bias), bias
            )
        else:
            y = _lax_conv(x, kernel)
            packed = _in_branch(lambda: _pack(_phases(y, window), bias), bias)
        return _unpack(packed, window), packed

    on_cpu = cpu if kernel.dtype == "f4" else native
    y, index = _by_platform(on_cpu, native, _crop(x, kernel, window), kernel, bias)
    return y, index


def _pool_and_index_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> tuple[Arrays, Arrays]:
    y, index = _pool_and_index(x, kernel, bias, window)
    return (y, index), (x, kernel, y, index)


def _conv_relu_pool_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, window: int
) -> tuple[jax.Array, Arrays]:
    (y, _), saved = _pool_and_index_fwd(x, kernel, bias, window)
    return y, saved


def _conv_relu_pool_bwd(window: int, saved: Arrays, g: jax.Array) -> Arrays:
    x, kernel, y, index = saved
    b, h, w, c = g.shape
    unpooled = (b, h * window, w * window, c)

    def native(
        x: jax.Array, kernel: jax.Array, y: jax.Array, index: jax.Array, g: jax.Array
    ) -> Arrays:
        g = jnp.where(y > 0, g, 0)
        dy = _from_phases(_route(g, index, window), unpooled)
        return *_conv_bwd_native(x, kernel, dy), jnp.sum(g, (0, 1, 2))

    def cpu(
        x: jax.Array, kernel: jax.Array, y: jax.Array, packed: jax.Array, g: jax.Array
    ) -> Arrays:
        g = _where_positive(g, packed, window)
        dbias = jnp.sum(g, (0, 1, 2))
        if window == 2 and _suits_winograd(kernel):
            return *_winograd_max_pool_bwd(x, kernel, packed, g), dbias
        dy = _route_packed(g, packed, window)
        if kernel.shape[2] == 1:
            return *_grey_max_pool_bwd(x, kernel, dy, window), dbias
        return *_conv_bwd_cpu(x, kernel, _from_phases(dy, unpooled)), dbias

    cropped = _crop(x, kernel, window)
    on_cpu = cpu if kernel.dtype == "f4" else native
    dx, dkernel, dbias = _by_platform(on_cpu, native, cropped, kernel, y, index, g)
    unseen = [(0, n - m) for n, m in zip(x.shape, cropped.shape, strict=True)]
    return jnp.pad(dx, unseen), dkernel, dbias


def _pool_and_index_bwd(window: int, saved: Arrays, g: Arrays) -> Arrays:
    return _conv_relu_pool_bwd(window, saved, g[0])


_conv_relu_pool.defvjp(_conv_relu_pool_fwd, _conv_relu_pool_bwd)
_pool_and_index.defvjp(_pool_and_index_fwd, _pool_and_index_bwd)


def _crop(x: jax.Array, kernel: jax.Array, window: int) -> jax.Array:
    """Drops the last rows and columns of x that only dropped results use."""
    height, width = (
        n - (n - k + 1) % window
        for n, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
    )
    return x[:, :height, :width]


# XLA's CPU backend has no fusions of several results: max and index would be two loops,
# and each would compute the convolution. It vectorises no comparisons that select,
# either. So all that the gradient needs is packed into one int32, by integer
# arithmetic: the float32 result with its last bits (two, for a window of 2x2) replaced
# by the phase of the max. That rounds it by at most 4e-7 of itself. Where it is 0, relu
# lets no gradient through.


def _bits(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.int32)


def _floats(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.float32)


def _ordered(bits: jax.Array) -> jax.Array:
    """Floats' bits to integers of the same order, and back: it is its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _tag_bits(phases: int) -> int:
    """A mask of the low bits that hold the number of a phase."""
    return 2 ** (phases - 1).bit_length() - 1


def _pack(phases: list[jax.Array], bias: jax.Array) -> jax.Array:
    """int32: the bits of `relu(max(phases) + bias)`, and the first phase of the max."""
    last = len(phases) - 1
    tag = _tag_bits(len(phases))
    # Of equal values the largest tag wins: that of the first phase.
    tagged = [(_ordered(_bits(p)) & ~tag) | (last - i) for i, p in enumerate(phases)]
    best = functools.reduce(jnp.maximum, tagged)
    y = _floats(_ordered(best & ~tag)) + bias
    relu = jnp.maximum(_bits(y), 0)  # negative floats are negative integers too
    return (relu & ~tag) | (last - (best & tag))


def _unpack(packed: jax.Array, window: int) -> jax.Array:
    return _floats(packed & ~_tag_bits(window**2))


def _where_positive(g: jax.Array, packed: jax.Array, window: int) -> jax.Array:
    """The cotangent that relu lets through."""
    return _masked(g, -(packed & ~_tag_bits(window**2)) >> 31)


def _route_packed(g: jax.Array, packed: jax.Array, window: int) -> jax.Array:
    """As `_route`, for what is packed."""
    phase = jnp.arange(window**2, dtype=jnp.int32).reshape(-1, *[1] * g.ndim)
    mask = (((packed & _tag_bits(window**2)) ^ phase) - 1) >> 31
    return _masked(jnp.broadcast_to(g, mask.shape), mask)


@jax.custom_vjp
def _masked(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Keeps x where the mask's bits are all 1, else 0; linear in x."""
    return _floats(_bits(x) & mask)


def _masked_fwd(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _masked(x, mask), mask


def _masked_bwd(mask: jax.Array, g: jax.Array) -> tuple[jax.Array, None]:
    return _masked(g, mask), None


_masked.defvjp(_masked_fwd, _masked_bwd)


def _in_branch(fn: Callable[[], jax.Array], bias: jax.Array) -> jax.Array:
    """`fn()`, packed, out of a branch that is always taken.

    XLA fuses nothing across the border of a branch. Without one, its CPU backend
    computes what looks cheap anew in every fusion that reads it, which made a training
    step twice as slow. (`lax.optimization_barrier` does the same, but jax 0.10 drops it
    there before it fuses.) The other branch is for a bias that is NaN.
    """
    shape = jax.eval_shape(fn).shape
    nan = functools.partial(jnp.full, shape, 0x7FC00000, jnp.int32)
    return lax.cond(bias[0] == bias[0], fn, nan)


# The first layer, whose images have one channel, has next to no arithmetic: what costs
# is memory. Written as sums of shifted images times kernel entries, convolution and
# pooling are one loop that XLA fuses, and only the maxima are written.


def _grey_phases(x: jax.Array, kernel: jax.Array, window: int) -> list[jax.Array]:
    places = _grey_windows(x, kernel, window)
    values = kernel.reshape(-1, kernel.shape[3])
    return [functools.reduce(jnp.add, map(jnp.multiply, xs, values)) for xs in places]


def _grey_max_pool_bwd(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, window: int
) -> Arrays:
    cout = kernel.shape[3]
    size = kernel.shape[0] * kernel.shape[1]
    places = _grey_windows(x, kernel, window)
    rows = [places[p][k].reshape(1, -1) for k in range(size) for p in range(window**2)]
    dkernel = jnp.concatenate(rows).reshape(size, -1) @ dy.reshape(-1, cout)
    shape = (x.shape[0], *(x.shape[i] - kernel.shape[i - 1] + 1 for i in (1, 2)), cout)
    dx = _input_gradient(kernel, _from_phases(dy, shape))  # dead code in a first layer
    return dx, dkernel.reshape(kernel.shape)


def _grey_windows(
    x: jax.Array, kernel: jax.Array, window: int
) -> list[list[jax.Array]]:
    """For every phase of the result, the kh * kw pixels [B, h, w, 1] it is made of."""
    kh, kw = kernel.shape[:2]
    h, w = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return [
        [
            x[
                :,
                p + i : p + i + h - window + 1 : window,
                q + j : q + j + w - window + 1 : window,
            ]
            for i in range(kh)
            for j in range(kw)
        ]
        for p in range(window)
        for q in range(window)
    ]


# Winograd's F(2x2, 3x3): the 2x2 results of a tile of 4x4 inputs d are
#
#     Y = A^T [ (G kernel G^T) * (B^T d B) ] A       with an elementwise product *,
#
# 16 multiplications instead of 36. Over all tiles and channels, each of the 16 is a
# matrix product [tiles, Cin] [Cin, Cout]. (S. Winograd, Arithmetic Complexity of
# Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
# Networks, 2016, section 4.1.) The matrices hold 0, 1 and 1/2, so in float32 the error
# is that of the direct sum, about 3e-7. A tile's results are a window of 2x2 pooling,
# so the max is taken on the way out.
#
# Every step but the product is linear, and its gradient its transpose: with
# V = B^T d B, U = G kernel G^T and M = V U, from dM = A dY A^T follow dU = V^T dM and
# dV = dM U^T, again 16 products each.


def _suits_winograd(kernel: jax.Array) -> bool:
    """With few channels the transforms cost more than the products that they save."""
    return kernel.shape[:2] == (3, 3) and kernel.shape[2] >= 8 and kernel.dtype == "f4"


def _winograd_kernel(kernel: jax.Array) -> jax.Array:
    """U = G kernel G^T, [16, Cin, Cout]."""

    def transform(k: jax.Array) -> jax.Array:
        even, odd = (k[0] + k[2]) / 2, k[1] / 2
        return jnp.stack([k[0], even + odd, even - odd, k[2]])

    u = transform(jnp.swapaxes(transform(kernel), 0, 1))  # [4, 4, Cin, Cout], u^T
    return jnp.swapaxes(u, 0, 1).reshape(16, *kernel.shape[2:])


def _winograd_inputs(x: jax.Array) -> jax.Array:
    """V = B^T d B of every tile d of x [B, 2h + 2, 2w + 2, C]: [16, B * h * w, C]."""
    b, height, width, c = x.shape
    h, w = height // 2 - 1, width // 2 - 1

    def transform(even: jax.Array, odd: jax.Array, n: int, axis: int) -> Arrays:
        # Tile t is made of the even and odd rows (or columns) t and t + 1.
        d0, d2 = (lax.slice_in_dim(even, i, i + n, axis=axis) for i in (0, 1))
        d1, d3 = (lax.slice_in_dim(odd, i, i + n, axis=axis) for i in (0, 1))
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    x = x.reshape(b, h + 1, 2, w + 1, 2, c)
    rows = transform(x[:, :, 0], x[:, :, 1], h, 1)
    v = [u for r in rows for u in transform(r[:, :, :, 0], r[:, :, :, 1], w, 2)]
    return jnp.stack([u.reshape(b * h * w, c) for u in v])


def _winograd_outputs(m: jax.Array) -> list[jax.Array]:
    """Y = A^T M A of every tile, as 4 phases [tiles, C], of M [16, tiles, C]."""

    def transform(m: list[Any]) -> list[Any]:
        return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]

    columns = [transform([m[4 * p + q] for p in range(4)]) for q in range(4)]
    return [y for i in range(2) for y in transform([c[i] for c in columns])]


def _winograd_products(x: jax.Array, u: jax.Array) -> jax.Array:
    return jnp.einsum("ptc,pcd->ptd", _winograd_inputs(x), u)


def _winograd_gradients(x: jax.Array, kernel: jax.Array, dm: jax.Array) -> Arrays:
    """The gradients of x and kernel, for the cotangent dM [16, tiles, Cout]."""
    v, inputs_transpose = jax.vjp(_winograd_inputs, x)
    u, kernel_transpose = jax.vjp(_winograd_kernel, kernel)
    (dx,) = inputs_transpose(jnp.einsum("ptd,pcd->ptc", dm, u))
    (dkernel,) = kernel_transpose(jnp.einsum("ptc,ptd->pcd", v, dm))
    return dx, dkernel


def _winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    b, h, w, cout = x.shape[0], x.shape[1] - 2, x.shape[2] - 2, kernel.shape[3]
    x = _pad_to_even(x)
    phases = jnp.stack(
        _winograd_outputs(_winograd_products(x, _winograd_kernel(kernel)))
    )
    half = (x.shape[1] - 2) // 2, (x.shape[2] - 2) // 2
    shape = (b, 2 * half[0], 2 * half[1], cout)
    return _from_phases(phases.reshape(4, b, *half, cout), shape)[:, :h, :w]


def _winograd_conv_bwd(x: jax.Array, kernel: jax.Array, g: jax.Array) -> Arrays:
    cout = kernel.shape[3]
    phases = [p.reshape(-1, cout) for p in _phases(_pad_to_even(g), 2)]

    def transform(y0: Any, y1: Any) -> list[Any]:
        return [y0, y0 + y1, y0 - y1, -y1]

    left = transform(phases[0], phases[2])
    right = transform(phases[1], phases[3])
    dm = jnp.stack([m for y in zip(left, right, strict=True) for m in transform(*y)])
    dx, dkernel = _winograd_gradients(_pad_to_even(x), kernel, dm)
    return dx[:, : x.shape[1], : x.shape[2]], dkernel


def _pad_to_even(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))


def _winograd_max_pool_bwd(
    x: jax.Array, kernel: jax.Array, packed: jax.Array, g: jax.Array
) -> Arrays:
    """Only one of a tile's 2x2 cotangents is not 0, so dM = g * A_i A_j^T at (i, j)."""
    cout = kernel.shape[3]
    index, g = (packed & 3).reshape(-1, cout), g.reshape(-1, cout)
    a = jnp.array([[1, 1, 1, 0], [0, 1, -1, -1]], g.dtype)[:, :, None, None]
    row = jnp.where((index < 2)[None], a[0], a[1])  # [4, tiles, Cout]
    column = jnp.where((index % 2 == 0)[None], a[0], a[1])
    dm = row[:, None] * (column * g)[None]
    return _winograd_gradients(x, kernel, dm.reshape(16, -1, cout))
