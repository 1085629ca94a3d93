"""Adapts the weights that predict.py reads with to a person's hand.

python scripts/train.py --config=configs/my_hand.py --config.data_folder=my_digits
python scripts/predict.py --workdir=checkpoints/my_hand photo.jpg
"""

import ml_collections

from configs import pretrained


def get_config() -> ml_collections.ConfigDict:
    config = pretrained.get_config()
    config.init_from = "pretrained"  # the weights that come along
    config.dataset = "mnist+folder"
    config.data_folder = "my_digits"  # with pictures DIR/0/* to DIR/9/*
    config.offline_dataset = "digits"
    config.train_split = "mixed"
    config.test_split = "own_test"
    config.validation = 2000
    config.num_epochs = 1
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.1
    config.ema_decay = 0.98
    return config
