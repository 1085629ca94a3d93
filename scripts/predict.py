"""Reads pictures of handwritten digits.

  python scripts/predict.py seven.png photos/*.jpg
  python scripts/predict.py --top_k=3 --format=json seven.png
  python scripts/predict.py --plot=answers.png

Without pictures it reads some images of the run's test split. The exit code is
0 only if every picture could be read.
"""

import sys

from absl import flags

from mnist_jax import cli

_WORKDIR = flags.DEFINE_string(
    "workdir", "checkpoints/default", "Folder of a training run."
)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "latest", ["latest", "best"], "Which weights; best on validation."
)
_TOP_K = flags.DEFINE_integer(
    "top_k", 1, "How many of the likeliest digits to give.", lower_bound=1
)
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json", "csv"], "How to print the answers."
)
_PLOT = flags.DEFINE_string(
    "plot", None, "Also draw images and answers into this file (.png, .pdf, .svg)."
)
_DEVICE = cli.define_device_flag()
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 16, "Without pictures: how many test images.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Without pictures: which test images.", lower_bound=0
)
_DATA_DIR, _MANUAL_DIR = cli.define_data_dir_flags()


def main(arguments: list[str]) -> int:
    """Prints what the pictures were read as; returns the exit code."""
    from mnist_jax import checkpoint, devices, evaluate, predict

    devices.set_up(_DEVICE.value)
    loaded = checkpoint.load_model(_WORKDIR.value, _CHECKPOINT.value)
    if note := evaluate.fallback_note(loaded):
        print(f"warning: {note}", file=sys.stderr)
    if arguments:
        predictions = predict.predict_files(loaded, arguments, _TOP_K.value)
    else:
        split = evaluate.load_split(
            loaded, data_dir=_DATA_DIR.value, manual_dir=_MANUAL_DIR.value
        )
        predictions = predict.predict_samples(
            loaded, split, _NUM_SAMPLES.value, _SEED.value, _TOP_K.value
        )
    class_names = predict.class_names(loaded)
    print(predict.FORMATS[_FORMAT.value](predictions, class_names))
    if _PLOT.value:
        from mnist_jax import plots

        plots.save(plots.predictions(predictions, class_names), _PLOT.value)
    failed = sum(prediction.status == "error" for prediction in predictions)
    if failed:
        count = f"{failed} of {len(predictions)}"
        print(f"warning: {count} pictures could not be read", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main)
