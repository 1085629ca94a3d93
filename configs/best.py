"""The best single network: a deeper one, trained four times as long.

python scripts/train.py --config=configs/best.py

12 minutes on 2 cores of an Intel Xeon with AVX-512 (jax 0.12.0.1): a sixth of the time
that seeds 0 to 5 took at once, beside other work.
Test accuracy 99.605 % (sd 0.031 over seeds 0 to 5, n = 6), loss 0.0121 (sd 0.0006).
"""

import ml_collections

from configs import cnn


def get_config() -> ml_collections.ConfigDict:
    config = cnn.get_config()
    config.validation = 0  # the recipe is chosen: train on all images
    config.offline_dataset = ""
    config.num_epochs = 20
    config.batch_size = 64
    config.model.name = "vgg"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.features = (24, 48, 96)
    config.model.kwargs.depths = (1, 2, 2)
    config.model.kwargs.dense = (128,)
    config.model.kwargs.dropout = 0.3
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.ema_decay = 0.999
    config.test_time_shift = 0
    config.augment.shift = 2.0
    config.augment.rotation = 12.0
    config.augment.scale = 0.12
    config.augment.shear = 0.15
    config.augment.elastic = 0.6
    config.checkpoint_every_epochs = 2
    return config
