"""Draws digits, letters and marks: what MNIST lacks, and what is no digit.

Start with `glyphs.py`.
"""
