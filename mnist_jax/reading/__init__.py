"""Reads digits in strangers' pictures.

Start with `reader.py`.
"""
