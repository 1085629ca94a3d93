"""Linen modules, one family a file, and the table `MODELS` of their names.

Start with `cnn.py`.
"""
