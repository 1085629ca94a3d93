"""Measures speed: of one machine, as it grows, and against other libraries.

Start with `measure.py`.
"""
