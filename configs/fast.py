"""The shortest way to 99 %: from the command to the saved checkpoint.

python scripts/train.py --config=configs/fast.py
"""

import ml_collections

from configs import seed


def get_config() -> ml_collections.ConfigDict:
    config = seed.get_config()
    config.num_epochs = 2
    config.batch_size = 64
    config.model.kwargs.features = (24, 48)
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule = "one_cycle"
    config.optimizer.warmup_epochs = 0.4
    config.checkpoint_every_epochs = 2
    return config
