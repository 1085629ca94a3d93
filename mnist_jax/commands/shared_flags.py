"""Flags that several commands have.

Each command keeps its flags in a `FlagValues` of its own, in place of absl's global
one, so that one program can import several commands.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from mnist_jax.errors import ConfigError
from mnist_jax.local_files import local_path
from mnist_jax.run.config_files import CONFIGS

# absl lists the flags below as those of the command that asks for them.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser[str]):
    """Reads a flag's path as `local_path` does."""

    syntactic_help = "a path"

    def __init__(self, name: str) -> None:
        self._name = f"--{name}"

    def parse(self, argument: str) -> str:
        return local_path(argument, self._name)

    def flag_type(self) -> str:
        return "path"


def define_path_flag(
    command_flags: flags.FlagValues, name: str, default: str | None, what: str
) -> flags.FlagHolder[Any]:
    """Defines a flag whose value is a path: see `local_path`."""
    return flags.DEFINE(
        _PathParser(name), name, default, what, flag_values=command_flags
    )


def define_paths_flag(
    command_flags: flags.FlagValues, name: str, default: list[str], what: str
) -> flags.FlagHolder[list[str]]:
    """Defines a flag that may be given several times, each time a path."""
    return flags.DEFINE_multi(
        _PathParser(name),
        flags.ArgumentSerializer(),
        name,
        default,
        what,
        flag_values=command_flags,
    )


def define_config_flag(
    command_flags: flags.FlagValues, default: str, what: str
) -> flags.FlagHolder[ConfigDict]:
    """Defines `--config`, by default a file in `configs/`.

    The default is only noted here, as ml_collections would run that file at once.
    `parse_flags` adds it to the command line, if that names no config.
    """
    from ml_collections import config_flags

    holder: flags.FlagHolder[ConfigDict] = config_flags.DEFINE_config_file(
        "config", None, what, flag_values=command_flags
    )
    flag = command_flags["config"]
    flag.default = str(CONFIGS / default)
    flag.default_as_str = repr(f"configs/{default}")  # a name that is found anywhere
    return holder


def define_device_flag(
    command_flags: flags.FlagValues,
) -> flags.FlagHolder[str | None]:
    """Defines `--device`."""
    return flags.DEFINE_enum(
        "device",
        None,
        ["cpu", "gpu", "tpu"],
        "What to run on; by default the best.",
        flag_values=command_flags,
    )


def define_checkpoint_flags(
    command_flags: flags.FlagValues,
) -> tuple[flags.FlagHolder[str], flags.FlagHolder[bool]]:
    """Defines `--checkpoint` and `--trust_code`, the arguments of `load_model`."""
    checkpoint = flags.DEFINE_enum(
        "checkpoint",
        "latest",
        ["latest", "best"],
        "Which weights; best on validation.",
        flag_values=command_flags,
    )
    trust_code = flags.DEFINE_bool(
        "trust_code",
        False,
        "Import code of installed packages that the checkpoint names.",
        flag_values=command_flags,
    )
    return checkpoint, trust_code


def define_reader_flags(
    command_flags: flags.FlagValues,
) -> tuple[flags.FlagHolder[str | None], flags.FlagHolder[str | None]]:
    """Defines `--workdir` and `--page_workdir`, the nets of a reader of pictures."""
    workdir = define_path_flag(
        command_flags,
        "workdir",
        None,
        "Folder of a training run; by default that of the weights that come along.",
    )
    page_workdir = define_path_flag(
        command_flags,
        "page_workdir",
        None,
        "As --workdir, of the net that finds the digits.",
    )
    return workdir, page_workdir


def define_data_dir_flags(
    command_flags: flags.FlagValues,
) -> tuple[flags.FlagHolder[str | None], flags.FlagHolder[str | None]]:
    """Defines `--data_dir` and `--manual_dir`."""
    data_dir = define_path_flag(
        command_flags,
        "data_dir",
        None,
        "Folder of tfds data sets; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.",
    )
    manual_dir = define_path_flag(
        command_flags,
        "manual_dir",
        None,
        "Folder with the data set's original archives, if you have them.",
    )
    return data_dir, manual_dir


class ProcessFlags(NamedTuple):
    """The flags of commands that several processes can run together."""

    num_cpu_devices: flags.FlagHolder[int | None]
    distributed: flags.FlagHolder[bool]
    coordinator_address: flags.FlagHolder[str | None]
    num_processes: flags.FlagHolder[int | None]
    process_id: flags.FlagHolder[int | None]


def define_process_flags(command_flags: flags.FlagValues) -> ProcessFlags:
    """Defines the flags of `ProcessFlags`."""
    return ProcessFlags(
        num_cpu_devices=flags.DEFINE_integer(
            "num_cpu_devices",
            None,
            "Make so many devices of the CPU's cores.",
            lower_bound=1,
            upper_bound=256,
            flag_values=command_flags,
        ),
        distributed=flags.DEFINE_bool(
            "distributed",
            False,
            "Join the processes that SLURM, Open MPI, Kubernetes or a TPU pod has "
            "started.",
            flag_values=command_flags,
        ),
        coordinator_address=flags.DEFINE_string(
            "coordinator_address",
            None,
            "Without those: HOST:PORT of the first process.",
            flag_values=command_flags,
        ),
        num_processes=flags.DEFINE_integer(
            "num_processes",
            None,
            "How many processes there are.",
            lower_bound=1,
            flag_values=command_flags,
        ),
        process_id=flags.DEFINE_integer(
            "process_id",
            None,
            "Which of them this one is, from 0.",
            lower_bound=0,
            flag_values=command_flags,
        ),
    )


def join_processes(given: ProcessFlags, same: Mapping[str, Any]) -> int:
    """Joins the other processes of a run, if the flags say that there are any.

    Args:
      given: the flags.
      same: name and value of what must be the same in all of them, beside versions and
        options of JAX.

    Returns:
      How many processes there are.

    Raises:
      UserError: see `processes.join`.
    """
    meeting = (
        given.coordinator_address.value,
        given.num_processes.value,
        given.process_id.value,
    )
    num_given = sum(value is not None for value in meeting)
    is_distributed = given.distributed.value
    if num_given not in (0, 3) or (num_given and is_distributed):
        raise ConfigError(
            "give --coordinator_address, --num_processes and --process_id, all three; "
            "or --distributed alone, where a cluster names them"
        )
    if num_given or is_distributed:
        from mnist_jax.parallel import jax_options, processes

        own = processes.code_versions() | jax_options.compared_options()
        return processes.join(processes.Processes(*meeting), {**own, **same})
    return 1
