"""Few parameters: 681, in one block of 20 channels that is used four times.

python scripts/train.py --config=configs/tiny.py

Over seeds 0 to 3 (n = 4, --config.num_seeds=4): test accuracy 99.025 % (sd 0.089), loss
0.0320 (sd 0.0028); read once, after 100 epochs of all 60,000 images. All four took 21
minutes of training on 2 cores of an AMD EPYC with AVX-512 (Python 3.12, jax 0.12.0.1)
while the machine was busy with other work too. Every number that is learned counts;
nothing is stored but those. It predicts by the mean of five views (test_time_shift).

Chosen on 10,000 images held out of train, in a prototype of the same net in another
program. Accuracy with one view, and with the five; mean of n seeds, and in brackets the
standard deviation:

  parameters  channels               epochs  batch  n   one          five
  681         20, stem 8, own         100      32   3   98.64 (.02)  98.98 (.08)
                mild at last          100      64   1   98.78        98.97
                linear                 40      32   3   98.49 (.19)  98.74 (.18)
                mild at last           40      64   1   98.51        98.73
                linear                 40      64   1   98.48        98.76
                linear                 10      64   1   98.31        98.55
              20, stem 8, tied         10      64   1   97.99        98.36
  673         21, stem shared, tied    10      64   1   97.91        98.13
  685         15                       90      32   3   98.44 (.08)  98.76 (.11)
                                       40      32   1   98.63        98.86
                                       10      64   2   98.17 (.23)  98.39 (.19)
  687         32, stem 11, groups,     10      64   1   97.75        98.21
                tied
  689         26, stem 9, groups, own  20      64   1   98.34        98.63
              26, stem 9, groups, tied 10      64   1   97.96        98.26
  809         17                       20      32   3   98.71 (.13)  98.90 (.10)
                                       20      64   3   98.60 (.14)  98.72 (.10)
  874         18                       20      32   1   98.68        98.81
  1,010       20                       20      32   1   98.83        98.99
                                       16      32   1   98.64        98.92
                                       16      64   1   98.94

In batches of 64, Adam's b2 is .99. "own" takes ten channels, scaled, as the logits, in
place of a dense layer (here dense = False); "tied" mixes them once more for that; a
shared stem has the block's filters; two groups of 26, or four of 32, divide the mixing,
and are shuffled; "mild at last" lets the augmentation fade over the last 40 % of the
steps. 681 has the cosine schedule but where it says linear, the others the linear one.
Short runs showed nothing beyond noise (about .2) of distillation, five steps, a norm
per pixel, or two blocks. Fifteen views gave -.01 to .13 more than five, in seven runs
of 681 to 689 parameters.

Test was read for one other net, before: 1,010 parameters (stem and features 20, dense,
20 epochs, linear) have 99.132 % (sd 0.061, n = 6) there. It had no part in the choice,
but for the hope that test is easier than what is held out.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
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
