"""Reads the digits in pictures that people send.

Open `reader.py` first: `Reader` reads pictures with one model, and returns a
`Prediction` for each. `paths` finds picture files and `files` decodes them safely;
`answers` writes what was read, `annotate` draws it on the picture, and `labels` counts
what is right. Between a picture and the model stand `pictures` and `ink` (which find
the ink and bring a digit to MNIST's size) and `layout`, `pieces` and `seams` (which
separate the digits of a number).

Others may use the public names of `reader`, `paths`, `files`, `answers`, `annotate`,
`labels` and `pictures`.
"""
