"""Experiments: each module has `get_config()`; start from `default`."""
