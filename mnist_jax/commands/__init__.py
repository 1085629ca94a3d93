"""The commands: flags and mains of the files in `scripts/`.

Start with `train.py`.
"""
