"""Digits and letters: EMNIST Balanced, 47 classes, 112,800 images to train on.

python scripts/train.py --config=configs/emnist.py

It is not measured: the data was not at hand. The recipe is that of cnn.py with a wider
last stage, for five times as many classes. EMNIST's other data sets can be trained on
in the same way, by --config.dataset=emnist/letters say.
"""

import ml_collections

from configs import cnn


def get_config() -> ml_collections.ConfigDict:
    config = cnn.get_config()
    config.dataset = "emnist/balanced"
    config.offline_dataset = ""  # none, because digits cannot stand in for letters
    config.validation = 9400  # 200 of each class
    config.batch_size = 64
    config.model.kwargs.features = (32, 64, 128)
    config.model.kwargs.even_contrast = False
    config.model.kwargs.dense = (256,)
    return config
