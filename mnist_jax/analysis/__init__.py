"""Judges trained models.

Open `classification.py` first: it scores a model's answers to labelled images. `splits`
loads those images, `corruptions` makes them harder, `ranking` compares finished runs,
and `sweep` trains a grid of configs and compares its cells. `plots` and `results_page`
show results as figures and as one HTML file.

Others may use the public names of all these modules, but of the three files
`*_corruptions.py` only what `corruptions.CORRUPTIONS` lists.
"""
