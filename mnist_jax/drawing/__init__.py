"""Draws digits, letters and marks: styles that MNIST lacks, and what is no digit.

Start with `glyphs.py`, the shapes that simulated pictures are written with. Training
uses `hand_styles.make_styled_digits` and `negatives.make_negatives`; simulation uses
`glyphs` and `unseen_styles`. `pens.py`, `fonts.py` and `thinning.py` serve them all.

Pages are drawn with OpenCV, which `opencv.py` loads: `strokes` draws the `figures` of
digits and signs, and `masks` warps shapes.
"""
