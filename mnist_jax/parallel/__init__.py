"""Spreads a run over devices and processes: shards of a batch, or models of many seeds.

Start with `placement.py`: a `Placement` jits the functions of a run for its seeds and
shards, and puts its arrays onto the devices. `shards.py` and `seeds.py` do the work
behind it. `gradients.py` sums gradients over shards and pieces of a batch. `devices.py`
chooses and describes devices; `jax_options.py` says which options of JAX a result
depends on; `processes.py` joins several processes, with `roll_call.py` and
`watchdog.py` behind it.

Others may use the public names of `placement`, `gradients`, `devices`, `processes` and
`jax_options`, `over_seeds` and `unstack` of `seeds`, and `is_primary`, `agreed`,
`check_same` and `wait_for_all` of `shards`.
"""
