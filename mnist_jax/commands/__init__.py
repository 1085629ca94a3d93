"""The commands: one file each, with its flags and its main.

Start with `train.py`. `scripts/train.py`, `mnist-jax train` and `python -m
mnist_jax.commands.train` all call its `run()`. The table of commands is `COMMANDS` of
`run_module.py`: to add one, write its file here, its script in scripts/ and its line
there. What the commands share is in `shared_flags.py` (flags), `parse_flags.py` (the
command line and --help) and `run_command.py` (errors and exit codes). A command imports
JAX in `main`, so that --help and wrong flags answer at once.
Nothing outside this room imports from it.
"""
