"""Experiments: each module has `get_config()`; start from `default`."""

import sys

# These modules say `from configs import default`. In an installed package this folder
# is `mnist_jax.configs`, so that package gets `configs` as a second name.
sys.modules.setdefault("configs", sys.modules[__name__])
