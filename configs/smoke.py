"""The whole path in a few seconds, on the digits that come with the installation.

python scripts/train.py --config=configs/smoke.py
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.dataset = "digits"
    config.offline_dataset = ""
    config.num_epochs = 2
    config.batch_size = 64
    config.model.kwargs.features = (8, 16)
    config.model.kwargs.padding = "VALID"
    config.model.kwargs.dense = (32,)
    return config
