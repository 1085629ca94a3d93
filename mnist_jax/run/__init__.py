"""What a run needs around the training loop: folder, log, console, signals.

Start with `workdir.py`.
"""
