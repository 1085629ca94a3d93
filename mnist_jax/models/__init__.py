"""Linen modules that map images to logits, one family a file.

Start with `sprint.py`, the network of the default config, or with the plain `cnn.py`.
`create.py` has the table `MODELS` of names and `create_model`, which others use, and
the type `Model` of all that can predict. `ensemble.py` joins trained networks, or views
of one image, to one model.

A model maps images float32 [B, H, W, C] in [0, 1] to logits float32 [B, num_classes].
Its `__call__` takes `images` and `train`; it names `mask` only if it normalises over
the batch. A new model is a class here and a line in `MODELS`. `page_net.py` is of
another kind: it maps pages to maps of digits.
"""
