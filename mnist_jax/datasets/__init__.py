"""Where images and labels come from: tfds, archives, records and embedded digits.

Start with `sources.py`, which finds a data set.
"""
