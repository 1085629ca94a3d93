"""Opens a page to draw on, which reads digits while they are drawn.

  python scripts/draw.py
  python scripts/draw.py --corrections=my_digits --workdir=checkpoints/default
  python scripts/draw.py --no_browser --port=8000

The page also reads picture files that are dropped, pasted or chosen, and a camera. It
is served to this machine alone, unless --host says otherwise, and nothing is stored
unless --corrections says where. Ctrl-C ends it. Programs send a picture's bytes:

  curl --data-binary @my_digit.png http://127.0.0.1:8000/read
"""

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from mnist_jax.commands.parse_flags import refuse_arguments
from mnist_jax.commands.run_command import run_command
from mnist_jax.commands.shared_flags import (
    define_checkpoint_flags,
    define_device_flag,
    define_path_flag,
    define_reader_flags,
)
from mnist_jax.errors import ConfigError
from mnist_jax.local_files import check_can_write, is_stream
from mnist_jax.run.config_files import PRETRAINED, PRETRAINED_PAGES

if TYPE_CHECKING:
    from mnist_jax.reading.reader import Reader

_FLAGS = flags.FlagValues()
_CORRECTIONS = define_path_flag(
    _FLAGS,
    "corrections",
    None,
    "Keep the digits that people correct in this folder, as 0/ to 9/.",
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to serve on; 0.0.0.0 lets others use it, without a password.",
    flag_values=_FLAGS,
)
_PORT = flags.DEFINE_integer(
    "port",
    None,
    "Port to serve on; by default 2828, or one that is free.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=_FLAGS,
)
_NO_BROWSER = flags.DEFINE_bool(
    "no_browser", False, "Do not open a browser.", flag_values=_FLAGS
)
_WORKDIR, _PAGE_WORKDIR = define_reader_flags(_FLAGS)
_CHECKPOINT, _TRUST_CODE = define_checkpoint_flags(_FLAGS)
_DEVICE = define_device_flag(_FLAGS)


def main(arguments: list[str]) -> None:
    """Serves the page until the process is ended."""
    refuse_arguments(arguments)
    if folder := _CORRECTIONS.value:
        if is_stream(folder):
            raise ConfigError(f"--corrections={folder} is no folder: name one")
        check_can_write(folder, f"--corrections={folder}")
    from mnist_jax.web import corrections, guard, server

    listening = server.open_socket(_HOST.value, _PORT.value)
    with listening:
        reader = _load_reader(server.TOP_K)
        kept = corrections.Corrections(folder, reader.class_names) if folder else None
        app = server.make_app(reader, kept, _HOST.value)
        address = server.address_of(listening, _HOST.value)
        if not guard.is_loopback(_HOST.value):
            _warn_of_others(listening)
        print(f"draw at {address} (Ctrl-C ends it)", flush=True)
        # The first pictures would wait for programs to be compiled.
        threading.Thread(target=server.warm_up, args=[reader], daemon=True).start()
        if not _NO_BROWSER.value:
            threading.Thread(target=_browse, args=[address], daemon=True).start()
        server.make_server(app).run(sockets=[listening])


def _load_reader(top_k: int) -> "Reader":
    from mnist_jax.parallel import devices
    from mnist_jax.reading.readings import load_reader

    devices.set_up(_DEVICE.value, share_memory=True)
    reader = load_reader(
        _WORKDIR.value or PRETRAINED,
        page_workdir=_PAGE_WORKDIR.value or PRETRAINED_PAGES,
        top_k=top_k,
        checkpoint=_CHECKPOINT.value,
        trust_code=_TRUST_CODE.value,
    )
    if _PAGE_WORKDIR.value and reader.page_metadata is None:
        raise ConfigError("--page_workdir is not for a model of other classes")
    return reader


def _warn_of_others(listening: socket.socket) -> None:
    """Says loudly that others can use the page, and where."""
    port = listening.getsockname()[1]
    kept = f", and fill {_CORRECTIONS.value!r}" if _CORRECTIONS.value else ""
    print(
        f"warning: OPEN TO OTHERS at http://{_own_address(listening)}:{port}: whoever "
        f"reaches this machine can have pictures read{kept}; there is no password",
        file=sys.stderr,
    )


def _own_address(listening: socket.socket) -> str:
    """Returns the address at which others reach this machine, as far as it is known."""
    bound = str(listening.getsockname()[0])
    if bound not in ("0.0.0.0", "::"):
        return f"[{bound}]" if ":" in bound else bound
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; it chooses an address
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _browse(address: str) -> None:
    # Without a screen there are only browsers that would take the terminal.
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform != "linux" or has_screen:
        import webbrowser

        webbrowser.open(address)


def run() -> NoReturn:
    """Runs the command as a process: see `run_command`."""
    run_command(main, _FLAGS)


if __name__ == "__main__":
    run()
