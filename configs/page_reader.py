"""A net that marks every digit of a page: the task "pages" of docs/extending.md.

python scripts/train.py --config=configs/page_reader.py

It needs OpenCV: pip install -e '.[pages]'. Pages are made as they are needed, by
mnist_jax/simulation. What it reaches is not measured yet, and predict.py does not use
it yet.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.task = "pages"
    config.num_epochs = 8
    config.batch_size = 32
    config.eval_batch_size = 32
    config.num_shards = 2
    config.model.name = "mnist_jax.models.page_net:PageNet"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.features = (32, 64, 128)
    config.model.kwargs.blocks = (1, 3, 2)
    config.model.kwargs.head = 48
    config.model.kwargs.dtype = "float32"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 2.5e-3
    config.optimizer.weight_decay = 0.01
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.clip_norm = 5.0
    config.ema_decay = 0.998
    config.test_time_shift = 0
    return config
