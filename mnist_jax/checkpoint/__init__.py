"""Saves, reads, checks and exports checkpoints.

Start with `save.py`.
"""
