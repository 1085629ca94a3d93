"""Clothes in place of digits: Fashion-MNIST.

python scripts/train.py --config=configs/fashion.py

It is not measured: the data was not at hand. The recipe is that of cnn.py for twice as
long, with a wider net, dropout, and no turning or shearing: clothes hang straight and
fill the image.
"""

import ml_collections

from configs import cnn


def get_config() -> ml_collections.ConfigDict:
    config = cnn.get_config()
    config.dataset = "fashion_mnist"
    config.offline_dataset = ""
    config.num_epochs = 10
    config.batch_size = 64
    config.model.kwargs.features = (32, 64, 128)
    config.model.kwargs.dense = (256,)
    config.model.kwargs.even_contrast = False  # greys of cloth carry information
    config.model.kwargs.dropout = 0.3
    config.augment.rotation = 0.0
    config.augment.shear = 0.0
    return config
