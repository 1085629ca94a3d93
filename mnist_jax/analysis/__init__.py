"""Judges trained models.

Open `classification.py` first: it scores a model's answers to labelled images. `splits`
loads those images, `corruptions` makes them harder, `ranking` compares finished runs,
and `sweep` trains a grid of configs and compares its cells. `page_scores` scores what a
page net marks, by condition. `before_and_after` compares a run with what it started
from. `plots`, `worst_pages` and `results_page` show results as figures and as one HTML
file; `figure_style` is the look of figures.

Others may use the public names of all these modules, but of the three files
`*_corruptions.py` only what `corruptions.CORRUPTIONS` lists.
"""
