"""What a run needs around its training loop: folder, compilation, console, log.

Start with `workdir.py`, which checks, locks and clears the folder of a run. Then
`compile_ahead.py` builds and compiles what the run calls, as a `Program`. `console.py`
prints progress, `metric_writer.py` keeps the numbers, `signals.py` catches Ctrl-C, and
`finite_checks.py` looks for infinities. `config_files.py` finds configs and
`stored_config.py` writes and reads them as JSON. `longer_runs.py` says what it means
that a run becomes longer. `inference.py` runs a trained model, and `saved_programs.py`
keeps what was compiled for it. `command_lines.py` says how the user calls the commands.

Others may use all public names. Mostly they need `find_config` and `load_config` of
`config_files`, `Console` of `console`, and `predict_logits` of `inference`.
"""
