"""Adapts the weights that predict.py reads with to the digits of one person.

python scripts/train.py --config=configs/my_hand.py --config.data_folder=my_digits
python scripts/predict.py --workdir=checkpoints/my_hand photo.jpg

my_digits has folders 0 to 9, with five pictures or more in each; draw.py keeps its
corrections so. It ends with what is read right before and after, of pictures of yours
that it was not trained on, and of MNIST. docs/your-own-pictures.md has what it does for
hands that write unlike MNIST. It takes some 20 s on 2 cores of an Intel Xeon.
"""

import ml_collections

from configs import pretrained


def get_config() -> ml_collections.ConfigDict:
    config = pretrained.get_config()
    config.init_from = "pretrained"  # the weights that come along
    config.dataset = "mnist+folder"
    config.offline_dataset = "digits"  # keeps less of what was known than MNIST does
    config.data_folder = "my_digits"  # with pictures in my_digits/0 to my_digits/9
    config.train_split = "mixed"  # 800 pictures of yours, 5,600 of MNIST
    config.test_split = "own_test"
    config.validation = 2000
    config.styled_digits = 0
    config.negatives = 800
    config.num_epochs = 1
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 0.1
    config.ema_decay = 0.98
    config.page_weight = 0.3  # the page net has not learned this hand
    # The fewer augmentations there are, the sooner they are compiled.
    for name in ("elastic", "perspective", "thickness", "gaps", "marks"):
        config.augment[name] = 0.0
    config.augment.noise = config.augment.levels = config.augment.blur = 0.0
    return config
