"""Makes files of a trained model, for this package and for programs without it.

  python scripts/export.py --workdir=checkpoints/mine --output=checkpoints/small
  python scripts/export.py --format=onnx --output=digits.onnx
  python scripts/export.py --format=stablehlo --output=digits.stablehlo

weights keeps the weights alone, in half precision: a folder that evaluate.py and
predict.py use like any run. onnx and stablehlo hold the whole model: uint8 [batch, 28,
28, 1] goes in, and calibrated probabilities come out. Both are run on real digits, and
compared with the model, before they are written.
"""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import define_checkpoint_flags, define_path_flag
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import check_can_write, is_stream, writing

if TYPE_CHECKING:
    from mnist_jax.checkpoint.load import Loaded

_FLAGS = flags.FlagValues()
_WORKDIR = define_path_flag(
    _FLAGS, "workdir", "checkpoints/default", "Folder of a training run."
)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_FORMAT = flags.DEFINE_enum(
    "format",
    "weights",
    ["weights", "onnx", "stablehlo"],
    "What to write: see above.",
    flag_values=_FLAGS,
)
_OUTPUT = define_path_flag(
    _FLAGS, "output", None, "Folder (weights) or file (onnx, stablehlo) to write."
)


def main(arguments: list[str]) -> None:
    """Exports as the flags say."""
    refuse_arguments(arguments)
    is_folder = _FORMAT.value == "weights"
    output = _check_output("folder" if is_folder else "file")
    if _FORMAT.value == "onnx":
        from mnist_jax.portable.model_files import check_onnx

        check_onnx()
    from mnist_jax.checkpoint import load
    from mnist_jax.parallel import devices

    devices.set_up("cpu")
    loaded = load.load_model(
        _WORKDIR.value, _CHECKPOINT.value, trust_code=_TRUST_CODE.value
    )
    with writing(f"--output={output}"):
        files = _write_weights(loaded, output) if is_folder else _write(loaded, output)
    size = sum(path.stat().st_size for path in files)
    count = f" in {len(files)} files" if len(files) > 1 else ""
    print(f"saved    {output}, {size / 1e3:,.0f} kB{count}")


def _check_output(kind: str) -> Path:
    """Returns --output, if it can be written; `kind` is what it has to be."""
    if not _OUTPUT.value:
        raise ConfigError(f"--output is missing: name a {kind} to write")
    shown = f"--output={_OUTPUT.value}"
    if is_stream(_OUTPUT.value):
        raise ConfigError(f"{shown} is no {kind}: name one to write")
    output = Path(_OUTPUT.value)
    if kind == "file" and (output.is_dir() or _OUTPUT.value.endswith("/")):
        raise ConfigError(f"{shown} is a folder: name a file")
    if kind == "file" and output.suffix == ".json":
        raise ConfigError(f"{shown}: .json is for what is told about the file")
    check_can_write(output if kind == "folder" else output.parent, shown)
    return output


def _write_weights(loaded: "Loaded", output: Path) -> list[Path]:
    from mnist_jax.checkpoint import export

    return export.export_model(loaded, Path(_WORKDIR.value), output)


def _write(loaded: "Loaded", output: Path) -> list[Path]:
    """Writes a model of another format; returns its files."""
    from mnist_jax.portable import model_files, network

    portable = network.make_portable(loaded)
    output.parent.mkdir(parents=True, exist_ok=True)
    if _FORMAT.value == "onnx":
        runtime, files = "onnxruntime", [output]
        difference = model_files.write_onnx(portable, output)
    else:
        runtime, files = "StableHLO", [output, model_files.metadata_path(output)]
        difference = model_files.write_stablehlo(portable, output)
    count = sum(len(images) for images in portable.examples)
    print(
        f"checked  {runtime} on {count} {portable.example_name}: largest difference "
        f"{difference:.1e}"
    )
    return files


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
