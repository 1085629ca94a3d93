"""The net that finds where to read, for predict.py: the task "page_proposals".

python scripts/train.py --config=configs/page_proposals.py

It needs OpenCV: pip install -e '.[pages]'. Pages are made as they are needed, reduced
by up to 6. It tells no digits apart, so its accuracy on them is not measured;
checkpoints/pretrained/page_proposals/README.md tells what the weights that come along
reach, and how long a run takes. Every field stands here, so that the net can be made
again when defaults change.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 1
    config.num_shards = 2  # on two cores a quarter faster than one program on both

    config.task = "page_proposals"
    config.dataset = "mnist"
    config.data_folder = ""
    config.train_split = "train"
    config.test_split = "test"
    config.validation = 5000
    config.offline_dataset = "digits"
    config.styled_digits = 0
    config.negatives = 0
    config.init_from = ""

    config.num_epochs = 8
    config.batch_size = 32
    config.eval_batch_size = 32

    config.model = ml_collections.ConfigDict()
    config.model.name = "mnist_jax.models.page_net:PageNet"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.features = (16, 32, 64)
    config.model.kwargs.blocks = (1, 2, 2)
    config.model.kwargs.head = 24
    config.model.kwargs.dtype = "float32"  # config.compute_dtype is asked as well

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adamw"
    config.optimizer.kwargs = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2.5e-3
    config.optimizer.schedule = "one_cycle"
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 5.0

    config.compute_dtype = "float32"
    config.loss = "cross_entropy"  # not used: the task has its own
    config.label_smoothing = 0.0
    config.ema_decay = 0.998
    config.test_time_shift = 0
    config.page_weight = 1.0  # not used: the digit net's counts

    config.augment = ml_collections.ConfigDict()  # pages need none
    for name in (
        *("shift", "rotation", "scale", "shear", "elastic", "perspective"),
        *("thickness", "gaps", "marks", "noise", "levels", "blur"),
    ):
        config.augment[name] = 0.0
    config.augment_with = ()

    config.checkpoint_every_epochs = 1
    config.max_to_keep = 2
    return config
