"""The fewest parameters at 99 %: one block of 16 channels, used four times.

python scripts/train.py --config=configs/tiny.py
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.num_epochs = 40
    config.batch_size = 64
    config.offline_dataset = ""
    config.model.name = "tiny"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.stem = 8
    config.model.kwargs.features = 16
    config.model.kwargs.steps = 4
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "linear"
    config.optimizer.kwargs.b2 = 0.99
    config.optimizer.warmup_epochs = 8.0
    config.optimizer.clip_norm = 1.0
    for name in config.augment:
        config.augment[name] = 0.0
    return config
