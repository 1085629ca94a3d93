"""Makes a trained model small: its weights alone, in half precision.

  python scripts/export.py --workdir=checkpoints/mine --output=checkpoints/small

The result is used like any run: evaluate.py and predict.py --workdir=...
"""

from pathlib import Path
from typing import NoReturn

from absl import flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import define_checkpoint_flags, define_path_flag
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import check_can_write, is_stream, writing

_FLAGS = flags.FlagValues()
_WORKDIR = define_path_flag(
    _FLAGS, "workdir", "checkpoints/default", "Folder of a training run."
)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_OUTPUT = define_path_flag(_FLAGS, "output", None, "Folder to write.")


def main(arguments: list[str]) -> None:
    """Exports as the flags say."""
    refuse_arguments(arguments)
    if not _OUTPUT.value:
        raise ConfigError("--output is missing: name a folder to write")
    if is_stream(_OUTPUT.value):
        raise ConfigError(f"--output={_OUTPUT.value} is no folder: name one to write")
    output = Path(_OUTPUT.value)
    check_can_write(output, f"--output={output}")
    from mnist_jax.checkpoint import export, load
    from mnist_jax.parallel import devices

    devices.set_up("cpu")
    loaded = load.load_model(
        _WORKDIR.value, _CHECKPOINT.value, trust_code=_TRUST_CODE.value
    )
    with writing(f"--output={output}"):
        export.export_model(loaded, Path(_WORKDIR.value), output)
    files = [path for path in output.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"saved    {output}, {size / 1e3:,.0f} kB in {len(files)} files")


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
