"""Saves, checks, loads and exports checkpoints, which Orbax writes.

Start with `save.py`: a `Checkpointer` saves and restores the state of a run. `load.py`
loads a trained model for evaluation and prediction. Both read through `read.py`, which
accepts only what is bit by bit as it was saved; `format.py` computes the digests for
that. `start.py` takes the weights that a run starts from. `export.py` writes a small
copy of a model. `atomic.py` writes files that are whole or absent, for other rooms too.

Others may use `Checkpointer`, `load_model`, `Loaded`, `export_model`, `tree_digest` and
`flatten` of `format`, `DELETED` of `read`, and the public names of `atomic`.
"""
