"""What `predict.py` reads pictures with: the weights in checkpoints/pretrained.

python scripts/train.py --config=configs/pretrained.py

Four networks that predict together. 13 minutes on 2 cores of an Intel Xeon with
AVX-512, beside other work (jax 0.12.0.1).
Test accuracy of one 99.595 % (sd 0.017 over seeds 0 to 3, n = 4), loss 0.0165 (sd
0.0003). checkpoints/pretrained/README.md has the rest.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.num_seeds = 4  # the models form an ensemble
    config.model.kwargs.even_contrast = False
    config.model.kwargs.dense = (80,)  # keeps four models below a megabyte
    config.offline_dataset = ""
    config.styled_digits = 6000
    config.negatives = 10000
    config.num_epochs = 12
    config.batch_size = 64
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 3e-3
    config.ema_decay = 0.999
    config.test_time_shift = 0
    config.augment.shift = 1.5
    config.augment.rotation = 15.0
    config.augment.scale = 0.2
    config.augment.shear = 0.25
    config.augment.elastic = 0.6
    config.augment.perspective = 0.15
    config.augment.thickness = 1.0
    config.augment.gaps = 0.6
    config.augment.marks = 0.2
    config.augment.noise = 0.06
    config.augment.levels = 0.6
    config.augment.blur = 0.8
    return config
