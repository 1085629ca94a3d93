"""The best single network: that of default.py, deeper and wider, trained for longer.

python scripts/train.py --config=configs/best.py

TIMES
ACCURACY
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.validation = 1000  # the temperature is fitted on them
    config.offline_dataset = ""
    config.num_epochs = 24
    config.model.kwargs.features = (64,)
    config.model.kwargs.depths = (2,)
    config.optimizer.warmup_epochs = 1.0
    config.ema_decay = 0.995
    config.augment.shift = 2.0
    config.augment.rotation = 10.0
    config.augment.scale = 0.1
    config.augment.shear = 0.1
    config.augment.elastic = 0.5
    config.checkpoint_every_epochs = 2
    return config
