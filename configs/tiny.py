"""Few parameters: 1,010, in one block of 20 channels that is used four times.

python scripts/train.py --config=configs/tiny.py

Over seeds 0 to 5 (n = 6, --config.num_seeds=6): test accuracy 99.132 % (sd 0.061), loss
0.0292 (sd 0.0013); read once, after 20 epochs of all 60,000 images. All six took 13
minutes of training on 2 cores of an AMD EPYC with AVX-512 (Python 3.12, jax 0.12.0.1)
while the machine was busy with other work too. Every number that is learned counts;
nothing is stored but those. It predicts by the mean of five views (test_time_shift).

Chosen on 10,000 images held out of train, in a prototype of the same net in another
program. Known before test was read were the rows of 16 epochs, of 809 and of 874
parameters, of 10 epochs, and the last of 40. As 809 and 874 stayed .1 and .2 below 99.0
here, and test is only a little easier, 1,010 was taken, with no more runs than that.
Accuracy with one view, and with the five; mean of n seeds, and in brackets the standard
deviation:

  parameters  channels               epochs  batch  n   one          five
  1,010       20                       16      64   1   98.94
                                       16      32   1   98.64        98.92
              (run afterwards)         20      32   1   98.83        98.99
  874         18                       20      32   1   98.68        98.81
  809         17                       20      32   3   98.71 (.13)  98.90 (.10)
                                       20      64   3   98.60 (.14)  98.72 (.10)
  685         15                       40      32   1   98.63        98.86
                                       10      64   2   98.17 (.23)  98.39 (.19)
  681         20, stem 8, own          40      32   3   98.49 (.19)  98.74 (.18)
                cosine, mild at last  100      64   1   98.78        98.97
                                       40      64   1   98.51        98.73
                as the next row        40      64   1   98.48        98.76
                                       10      64   1   98.31        98.55
              20, stem 8, tied         10      64   1   97.99        98.36
  673         21, stem shared, tied    10      64   1   97.91        98.13
  689         26, stem 9, groups, own  20      64   1   98.34        98.63
              26, stem 9, groups, tied 10      64   1   97.96        98.26
  687         32, stem 11, groups,     10      64   1   97.75        98.21
                tied

In batches of 64, Adam's b2 is .99. "own" takes ten channels, scaled, as the logits, in
place of a dense layer; "tied" mixes them once more for that; a shared stem has the
block's filters; two groups of 26, or four of 32, divide the mixing, and are shuffled;
"mild at last" lets the augmentation fade over the last 40 % of the steps. Short runs
showed nothing beyond noise (about .2) of distillation, five steps, a norm per pixel, or
two blocks. Fifteen views gave -.01 to .13 more than five, in seven runs of 681 to
689 parameters. Under 697 parameters 99.0 % was not reached on these images, though 100
epochs came near; test was not read for any but this config.
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config()
    config.validation = 0  # the recipe is chosen: train on all images
    config.offline_dataset = ""
    config.num_epochs = 20
    config.batch_size = 32
    config.model.name = "tiny"
    config.model.kwargs = ml_collections.ConfigDict()
    config.model.kwargs.stem = 20
    config.model.kwargs.features = 20
    config.model.kwargs.steps = 4
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 0.06
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_epochs = 4.0
    config.optimizer.clip_norm = 1.0
    config.test_time_shift = 1
    config.augment.shift = 1.0
    config.augment.rotation = 5.0
    config.augment.scale = 0.05
    config.augment.shear = 0.05
    return config
