"""The shortest way to 99 %: from the command to the saved checkpoint.

python scripts/train.py --config=configs/fast.py

A net with a fixed first layer (`models.Sprint`) sees two thirds of the images once.
Chosen on 10,000 images held out of train, where it has 99.108 % (sd 0.044, n = 6).
"""

import ml_collections

from configs import seed


def get_config() -> ml_collections.ConfigDict:
    config = seed.get_config()
    config.train_split = "train[:40960]"
    config.num_epochs = 1
    config.num_shards = 1
    config.batch_size = 128
    config.model.name = "sprint"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.border = 2
    config.model.kwargs.filters = 12
    config.model.kwargs.filter_size = 5
    config.model.kwargs.features = (32,)
    config.model.kwargs.dense = (256,)
    config.optimizer.kwargs.b1 = 0.8
    config.optimizer.kwargs.b2 = 0.95
    config.optimizer.learning_rate = 0.02
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_epochs = 0.25
    config.label_smoothing = 0.1
    config.eval_batch_size = 200  # whose patches stay in the cache
    return config
