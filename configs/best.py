"""The best single network: that of default.py, deeper and wider, trained for longer.

python scripts/train.py --config=configs/best.py

7 minutes on one core of an Intel Xeon with AVX-512 (jax 0.12.0.1), the mean of six
that ran two at a time.
Test accuracy 99.673 % (sd 0.045 over seeds 0 to 5, n = 6), loss 0.0559 (sd 0.0006).
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
