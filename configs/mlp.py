"""A multilayer perceptron instead of the CNN; all else as in default.py.

python scripts/train.py --config=configs/mlp.py
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.model.name = "mlp"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.dense = (512, 512)
    config.model.kwargs.dropout = 0.2
    return config
