"""The shortest way to 99 %: from the command to the saved checkpoint.

python scripts/train.py --config=configs/fast.py

16.9 s from an empty compilation cache and 13.1 s with it (n = 3 each), of which
training 10.6 s, on 2 cores of an Intel Xeon with AVX-512 (jax 0.12.0.1). Test accuracy
99.159 % (sd 0.080 over seeds 0 to 19, n = 20), loss 0.0247 (sd 0.0016).

Chosen on 10,000 images held out of train, 3 or 4 seeds each: one epoch gave 98.6 to
98.8 in every net that was tried, two epochs of this one 99.04 and of narrower ones
98.92 to 98.97.
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
