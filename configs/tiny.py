"""Few parameters: 681, in one block of 20 channels that is used four times.

python scripts/train.py --config=configs/tiny.py

21 minutes of training for seeds 0 to 3 at once (--config.num_seeds=4) on 2 cores of an
AMD EPYC with AVX-512, beside other work (Python 3.12, jax 0.12.0.1).
Test accuracy 99.025 % (sd 0.089 over seeds 0 to 3, n = 4), loss 0.0320 (sd 0.0028).

Every number that is learned counts; nothing is stored but those. It predicts by the
mean of five views (test_time_shift). docs/results.md has the other sizes that were
tried, on images held out of train.
"""

import ml_collections

from configs import cnn


def get_config() -> ml_collections.ConfigDict:
    config = cnn.get_config()
    config.validation = 0  # the recipe is chosen: train on all images
    config.offline_dataset = ""
    config.num_epochs = 100
    config.batch_size = 32
    config.model.name = "tiny"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.stem = 8
    config.model.kwargs.features = 20
    config.model.kwargs.steps = 4
    config.model.kwargs.dense = False
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.06
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 20.0
    config.optimizer.clip_norm = 1.0
    config.test_time_shift = 1
    config.augment.shift = 1.0
    config.augment.rotation = 5.0
    config.augment.scale = 0.05
    config.augment.shear = 0.05
    config.checkpoint_every_epochs = 5
    return config
