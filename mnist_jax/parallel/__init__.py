"""Devices, shards, seeds and processes: where arrays live.

Start with `shards.py`.
"""
