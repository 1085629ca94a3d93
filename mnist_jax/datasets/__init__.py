"""Where images and labels come from: tfds, archives, embedded digits, users' packages.

Start with `sources.py`, which finds a data set, and `cache.py`, which loads its splits.
Below them, `archives.py` and `tfds_builders.py` fetch and prepare MNIST's siblings;
`decode.py` and `shard_files.py` read files. Others use `sources.resolve_dataset`,
`cache.load_dataset`, `arrays.Dataset`, `array_dataset.ArrayDataset` (a data set of your
own), `geometry` (how MNIST places a digit) and `cache_folder.cache_dir`.
"""
