"""Runs the scripts in forked processes, so that none has to import anything.

Orders come on stdin, one JSON object a line. Each is answered by a line on stdout:

    {"start": {...}}  forks and runs a script, with the arguments of
                      `faults.client.Server.start`; the answer is the process's id
    {"wait": ID}      waits until that process has ended; the answer has its return code
                      (as in `subprocess`), memory (the most it used, MiB) and processor
                      time (seconds)

Before the fork this process only imports. It starts no backend of JAX, so that it has
one thread, as a process that forks must. A module that reads the environment when it is
imported, such as JAX, sees the server's environment, not that of the script.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = (
    "ml_collections.config_flags",
    "matplotlib.pyplot",
    "mnist_jax.reading.annotate",
    "mnist_jax.reading.answers",
    "mnist_jax.checkpoint.save",
    "mnist_jax.commands.run_command",
    "mnist_jax.commands.shared_flags",
    "mnist_jax.parallel.devices",
    "mnist_jax.analysis.splits",
    "mnist_jax.evaluate",
    "mnist_jax.checkpoint.export",
    "mnist_jax.checkpoint.load",
    "mnist_jax.reading.reader",
    "mnist_jax.simulation.simulator",
    "mnist_jax.train",
    "PIL.Image",
    "sklearn.datasets",
    "tensorboardX",
    "tensorstore",
    "tqdm",
)


def run(order: dict[str, Any]) -> None:
    """Turns this process, a forked child, into the script."""
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(order["input"] or os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(order["output"], write), 1)
    os.dup2(os.open(order["errors"], write), 2)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have started the tests
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  it stays open to the end
    os.chdir(order["cwd"] or REPOSITORY)
    os.environ.update(order["env"])
    for name, limit in order["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    sys.argv = [str(REPOSITORY / "scripts" / order["script"]), *order["arguments"]]
    if fault := order["fault"]:
        ctypes.CDLL(os.environ["LD_PRELOAD"]).shim_arm(
            os.fsencode(fault["folder"]),
            os.fsencode(fault["operation"]),
            ctypes.c_long(fault["number"]),
            fault["mode"],
            fault["error"],
            ctypes.c_double(fault["seconds"]),
            os.open(fault["log"], write) if fault["log"] else -1,
        )
    runpy.run_path(sys.argv[0], run_name="__main__")


def leave(code: Any) -> None:
    """Ends the child as Python would, without freeing memory, which takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def main() -> None:
    warnings.filterwarnings("ignore", ".*fork.*")
    for name in MODULES:
        importlib.import_module(name)
    from mnist_jax.checkpoint.save import import_orbax

    import_orbax()
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        sys.exit(f"{threads} threads before the fork")
    gc.collect()
    gc.freeze()  # otherwise each child's first collection would copy all memory
    print("null", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            pid = os.fork()
            if not pid:
                try:
                    run(order["start"])
                    leave(0)
                except SystemExit as end:
                    leave(end.code)
                except BaseException:
                    traceback.print_exc()
                    leave(1)
            print(pid, flush=True)
        else:
            _, status, used = os.wait4(order["wait"], 0)
            answer = {
                "returncode": os.waitstatus_to_exitcode(status),
                "memory": used.ru_maxrss / 1024,
                "seconds": used.ru_utime + used.ru_stime,
            }
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
