"""Six networks of configs/best.py that predict together: seeds 0 to 5, none left out.

python scripts/train.py --config=configs/ensemble.py

71 minutes on 2 cores of an Intel Xeon with AVX-512, beside other work (jax 0.12.0.1).
Test accuracy of the six together 99.73 % (n = 1), loss 0.0080, calibration error (15
bins) 0.09 %.
"""

import ml_collections

from configs import best


def get_config() -> ml_collections.ConfigDict:
    config = best.get_config()
    config.num_seeds = 6
    return config
