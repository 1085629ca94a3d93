"""Experiments: each module has `get_config()`; start from `default`."""

import sys

# These modules say `from configs import default`. An installed package has them as
# `mnist_jax.configs`: if that is imported, `configs` is a second name for it.
sys.modules.setdefault("configs", sys.modules[__name__])
