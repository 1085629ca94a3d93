"""Bad input of every kind, over all scripts: one line on stderr that says what to do.

Each case is a line of a table below: the command line, and what its error must say.
Whatever is given, the exit code is not 0, there is no traceback and no hang, no more
than 512 MiB of memory is used, and the folder is left as it was, file by file.
"""

import functools
import hashlib
import json
import os
import random
import shlex
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from faults.client import Server
from helpers import STORED
from mnist_fixture import make_dataset, write_prepared
from PIL import Image

from mnist_jax.config import FIELDS

MAX_MEMORY = 512  # MiB, with all that is imported


class Case(NamedTuple):
    script: str
    arguments: list[str]
    message: str


def read_table(script: str, table: str, *common: str) -> Iterator[Case]:
    """Cases of a table of `arguments | message`."""
    for line in filter(None, table.splitlines()):
        arguments, _, message = line.partition(" | ")
        yield Case(script, [*common, *shlex.split(arguments)], message.strip())


# ---------------------------------------------------------------- flags of any script

ANY = """
--nope | unknown flag --nope: --help lists all flags
--workdri=run | unknown flag --workdri: did you mean --workdir? (--help
-x | unknown flag --x: --help lists all flags
--device=abacus | abacus
--device= | device
--workdir= | --workdir is empty
--workdir=gs://bucket/run | --workdir=gs://bucket/run is a URL
--workdir=~no_such_user/run | there is no user 'no_such_user'
--device | device
"""
NO_ARGUMENTS = "stray | unexpected argument 'stray'; flags look like --name=value"

# ----------------------------------------------------------------------------- train

TRAIN = """
--num_cpu_devices=0 | num_cpu_devices=0
--num_cpu_devices=many | num_cpu_devices=many
--num_cpu_devices=99999999999 | num_cpu_devices=99999999999
--num_processes=2 | all three
--process_id=-1 | process_id=-1
--distributed --num_processes=2 | --distributed alone
--coordinator_address=localhost:1 --process_id=0 | all three
--resume --overwrite | exclude each other
--resume=perhaps | resume
--config.batchsize=3 | did you mean 'batch_size'?
--config.=1 | invalid syntax
--config.model=cnn | config.model
--config.model.kwargs.features=x | config.model.kwargs make no working 'cnn'
--config.model.kwargs.features=(0,) | config.model.kwargs make no working 'cnn'
--config.model.kwargs.features=(-3,) | config.model.kwargs make no working 'cnn'
--config.model.kwargs.kernel_size=0 | config.model.kwargs make no working 'cnn'
--config.model.kwargs.kernel_size=-1 | config.model.kwargs make no working 'cnn'
--config.model.kwargs.kernel_size=99 --config.model.kwargs.padding=VALID | config.model.kwargs make no working 'cnn'
--config.model.kwargs.padding=NOPE | config.model.kwargs make no working 'cnn'
--config.model.kwargs.dropout=nan | dropout must be from 0 to below 1
--config.model.kwargs.dropout=1.0 | dropout must be from 0 to below 1
--config.model.kwargs.nope=1 | nope
--config.model.name=cmn | did you mean 'cnn'?
--config.model.name=../cnn | config.model.name = '../cnn'
--config.model.name=ｃｎｎ | config.model.name
--config.optimizer.name=adm | did you mean 'adam'?
--config.optimizer.name=lbfgs | optax.lbfgs cannot be used so
--config.optimizer.name=apply_updates | is no optimizer of optax
--config.optimizer.schedule=cosin | did you mean 'cosine'?
--config.optimizer.warmup_epochs=-1 | warmup_epochs
--config.init_from=nowhere | config.init_from: no folder 'nowhere'
--config.dataset=mnits | did you mean 'mnist'?
--config.dataset=../../etc | no data set '../../etc'
--config.dataset=/etc | no data set '/etc'
--config.dataset=mnist/ | no data set
--config.train_split=trian | cannot read split 'trian' of digits
--config.train_split=train[ | cannot read split 'train['
--config.train_split=train[:0] | has no images
--config.train_split=train[9:3] | split 'train[9:3]'
--config.train_split=train[:101%] | cannot read split
--config.train_split=train[nan:] | cannot read split
--config.train_split=train+ | cannot read split 'train+'
--config.train_split=train+validation | trains on the validation split
--config.test_split=tset | cannot read split 'tset'
--config.num_seeds=2 --config.num_shards=2 | cannot both be above 1
--config.num_shards=2 --config.model.kwargs.batch_norm=True | set config.num_shards=1
--workdir=good.png | not
--workdir=good.png/run | good.png/run
--config=gs://bucket/a.py | is a URL
--config.dataset=mnist --data_dir=gs://tfds-data/datasets | --data_dir=gs://tfds-data/datasets is a URL
--workdir=run | add --resume to go on with it
--workdir=run --resume | but the run to resume has
--workdir=files/dangling/run | files/dangling/run
--config=nope.py | no config file 'nope.py'; configs/ has:
--config=files | no config file 'files'
--config= | no config file ''
--config | config
--config=good.png | must end in .py
"""

CONFIG_FILES = {
    "empty": "",
    "syntax": "def get_config(:\n",
    "nulls": "\0\0",
    "latin": "# caf\xe9",
    "indent": "  x = 1\n x = 2\n",
    "raises": "raise ValueError('many\\nlines\\nof text')",
    "exits": "import sys; sys.exit(0)",
    "exits_text": "import sys; sys.exit('so long')",
    "stops": "raise KeyboardInterrupt",
    "ends": "raise GeneratorExit",
    "odd": "class Odd(BaseException): pass\nraise Odd('odd')",
    "imports": "import no_such_module",
    "itself": "from configs import no_such_config",
    "loops": "def f(): return f()\nf()",
    "asks": "input()",
    "memory": "raise MemoryError",
    "late": "def get_config(): raise OSError(2, 'lost')",
    "none": "def get_config(): pass",
    "dict": "def get_config(): return {'seed': 0}",
    "wants": "def get_config(name): return name",
    "number": "get_config = 3",
    "class": "class get_config: pass",
    "bare": "import ml_collections\nget_config = ml_collections.ConfigDict",
}
CHANGED = {  # what `config` is changed by, and the message
    "del config.seed": "config.seed is missing; start the file from default.get_config()",
    "del config.augment": "config.augment",
    "del config.model": "config.model",
    "config.extra = 1": "config.extra: no such field",
    "config.model.extra = 1": "config.model.extra: no such field",
    "config.seed = '0'": "seed",
    "config.seed = True": "config.seed must be a whole number from 0 to 2**32 - 1",
    "config.seed = None": "config.seed must be",
    "config.batch_size = 32.0": "batch_size",
    "config.dataset = ''": "config.dataset must be a name",
    "config.train_split = ['train']": "Could not override field 'train_split'",
    "config.model = 'cnn'": "Could not override field 'model'",
    "config.model.kwargs = None": "config.model.kwargs must be a ConfigDict",
    "config.optimizer.kwargs = {'b1': lambda step: 0.9}": "config cannot be saved as JSON",
    "config.optimizer.kwargs = {'b1': object()}": "config cannot be saved as JSON",
    "config.optimizer.kwargs = {'b1': b'x'}": "config cannot be saved as JSON",
    "config.optimizer.kwargs = {'nope': 1}": "optax.adam cannot be used so",
    "config.optimizer.kwargs = {'b1': 'x'}": "optax.adam cannot be used so",
    "config.optimizer.kwargs = {'learning_rate': 1.0}": "optax.adam cannot be used so",
    "config.model.kwargs = {}": "config.model.kwargs.batch_norm is missing for 'cnn'",
    "config.model.kwargs.parent = None": "config.model.kwargs.parent is unknown",
    "config.model.kwargs.features = {'a': 1}": "Could not override field 'features'",
    "config.model.kwargs.features = 'abc'": "Could not override field 'features'",
    "config.model.kwargs.features = (10**12,)": "more than a memory holds",
    "config.model.kwargs.dropout = 'x'": "dropout",
    "config.num_epochs = 10**400": "config.num_epochs must be",
    "config.learning = config": "RecursionError",
}

# Of each field: of another kind, empty, below and above what it may be.
VALUES = ("-1", "nan", "inf", "1e400", "", "x", "None", "99999999999999999999")


def field_cases() -> Iterator[Case]:
    chosen = random.Random(0)
    for name, field in FIELDS.items():
        if field.type is str:
            continue
        bad = [v for v in VALUES if not is_number(v) or not field.is_valid(float(v))]
        # Two of each, as of all there are some 300.
        for value in chosen.sample(bad, 2):
            argument = f"--config.{name}={value}"
            yield Case("train.py", [SMOKE, NEW, argument], name.split(".")[-1])


def is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False


# -------------------------------------------------------------------- runs and weights

Change = Callable[[Path], None]


def step_of(run: Path) -> Path:
    return run / "checkpoints" / "15"


def rewrite(**fields: object) -> Change:
    """A stranger's metadata: sealed, so that only what it says is wrong."""

    def change(run: Path) -> None:
        path = step_of(run) / "metadata" / "metadata"
        metadata = json.loads(path.read_text())
        for name, value in fields.items():
            owner = metadata
            *groups, last = name.split("__")
            for group in groups:
                owner = owner[group]
            if value is ...:
                del owner[last]
            else:
                owner[last] = value
        metadata.pop("sha256", None)
        text = json.dumps(metadata, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
        path.write_text(json.dumps({**metadata, "sha256": digest}))

    return change


def write(name: str, content: bytes) -> Change:
    def change(run: Path) -> None:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)

    return change


def remove(name: str) -> Change:
    def change(run: Path) -> None:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def in_place_of(name: str, make: Callable[[Path], object]) -> Change:
    def change(run: Path) -> None:
        remove(name)(run)
        make(run / name)

    return change


def flip(pattern: str) -> Change:
    def change(run: Path) -> None:
        (path,) = list(run.glob(pattern))[:1]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return change


METADATA = "checkpoints/15/metadata/metadata"
DEEP = b"[" * 100_000
RUNS: dict[str, tuple[Change, str]] = {  # what a run was changed by, and the message
    "no_checkpoints": (remove("checkpoints"), "holds no run"),
    "checkpoints_file": (in_place_of("checkpoints", Path.touch), "holds no run"),
    "no_step": (remove("checkpoints/15"), "no complete checkpoint"),
    "step_file": (in_place_of("checkpoints/15", Path.touch), "no complete checkpoint"),
    "step_empty": (in_place_of("checkpoints/15", Path.mkdir), "no metadata of mnist_jax"),
    "no_state": (remove("checkpoints/15/state"), "no intact checkpoint"),
    "no_metadata": (remove("checkpoints/15/metadata"), "no metadata of mnist_jax"),
    "renamed": (lambda run: step_of(run).rename(run / "checkpoints" / "16") and None, "does not match its SHA-256"),
    "metadata_empty": (write(METADATA, b""), "unreadable metadata"),
    "metadata_text": (write(METADATA, b"hello"), "unreadable metadata"),
    "metadata_list": (write(METADATA, b"[]"), "unreadable metadata"),
    "metadata_number": (write(METADATA, b"3"), "unreadable metadata"),
    "metadata_null": (write(METADATA, b"null"), "unreadable metadata"),
    "metadata_deep": (write(METADATA, DEEP), "unreadable metadata"),
    "metadata_digits": (write(METADATA, b"9" * 9999), "unreadable metadata"),
    "metadata_binary": (write(METADATA, bytes(range(256))), "unreadable metadata"),
    "metadata_folder": (in_place_of(METADATA, Path.mkdir), "unreadable metadata"),
    "metadata_pipe": (in_place_of(METADATA, os.mkfifo), "unreadable metadata"),
    "flipped": (flip("checkpoints/15/state/d/*"), "no intact checkpoint"),
    "flipped_metadata": (flip(METADATA), "no intact checkpoint"),
    "manifest_empty": (write("checkpoints/15/state/manifest.ocdbt", b""), "no intact checkpoint"),
    "newer": (rewrite(format_version=2), "written by a newer mnist_jax: format 2"),
    "no_leaves": (rewrite(leaves=...), "no intact checkpoint"),
    "leaves_list": (rewrite(leaves=[]), "no intact checkpoint"),
    "leaves_none": (rewrite(leaves={}), "does not fit"),
    "leaves_outside": (rewrite(leaves={"params/../../x": {"type": "float32[]", "sha256": "0"}}), "no intact checkpoint"),
    "leaves_numbers": (rewrite(leaves={"params/x": 3}), "no intact checkpoint"),
    "no_config": (rewrite(config=...), "does not fit this mnist_jax"),
    "config_list": (rewrite(config=[1]), "does not fit this mnist_jax"),
    "config_text": (rewrite(config="cnn"), "does not fit this mnist_jax"),
    "no_model": (rewrite(config__model=...), "does not fit this mnist_jax"),
    "other_model": (rewrite(config__model__name="os.system"), "config.model.name = 'os.system'"),
    "other_kwargs": (rewrite(config__model__kwargs__nope=1), "config.model.kwargs.nope is unknown"),
    "huge_model": (rewrite(config__model__kwargs__dense=[10**15]), "does not fit"),
    "many_seeds": (rewrite(config__num_seeds=10**9), "config.num_seeds must be"),
    "two_seeds": (rewrite(config__num_seeds=2), "does not fit the config"),
    "eval_batch_size": (rewrite(config__eval_batch_size=0), "config.eval_batch_size must be"),
    "test_split": (rewrite(config__test_split=3), "config.test_split must be"),
    "no_dataset": (rewrite(dataset=...), "does not fit this mnist_jax"),
    "no_classes": (rewrite(dataset__num_classes=...), "does not fit this mnist_jax"),
    "one_class": (rewrite(dataset__num_classes=1), "num_classes is 1"),
    "many_classes": (rewrite(dataset__num_classes=10**12), "num_classes is 1000000000000"),
    "text_classes": (rewrite(dataset__num_classes="10"), "does not fit this mnist_jax"),
    "few_names": (rewrite(dataset__class_names=["0"]), "does not fit this mnist_jax"),
    "odd_names": (rewrite(dataset__class_names=[None] * 10), "names are no texts"),
    "cold": (rewrite(temperature=0), "temperature is 0"),
    "hot": (rewrite(temperature="1"), "temperature is '1'"),
    "nan": (rewrite(temperature=float("nan")), "temperature is nan"),
}  # fmt: skip
# What of them matters to a run that shall go on.
RESUMED: dict[str, tuple[Change, str]] = {
    "json_empty": (write("config.json", b""), "config.json' cannot be read"),
    "json_text": (write("config.json", b"hello"), "config.json' cannot be read"),
    "json_array": (write("config.json", b"[1]"), "config.json' cannot be read"),
    "json_null": (write("config.json", b"null"), "is in only one of this config"),
    "json_cut": (write("config.json", b'{"seed": 0,'), "config.json' cannot be read"),
    "json_deep": (write("config.json", DEEP), "config.json' cannot be read"),
    "json_binary": (write("config.json", bytes(range(256))), "config.json' cannot be read"),
    "json_other": (write("config.json", b'{"seed": 3}'), "is in only one of this config"),
    "json_folder": (in_place_of("config.json", Path.mkdir), "config.json' cannot be read"),
    "json_pipe": (in_place_of("config.json", os.mkfifo), "config.json' cannot be read"),
}  # fmt: skip

EVALUATE = """
--workdir=nowhere | no folder 'nowhere'; train first
--workdir=good.png | no folder 'good.png'
--workdir=files | holds no run
--split= | --split is empty
--split=tset | cannot read split 'tset' of digits, which has train (1,
--split=test[ | cannot read split
--split=test[:0] | has no images
--split=test[5:2] | split 'test[5:2]'
--dataset=digit | did you mean 'digits'?
--dataset=../run | no data set '../run'
--checkpoint=worst | checkpoint
--checkpoint=best --workdir=runs/flipped | no intact checkpoint
--pictures=0 | pictures=0
--pictures=-1 | pictures=-1
--pictures=x | pictures=x
--json=perhaps | json
--dataset=mnist --manual_dir=nowhere | train-images-idx3-ubyte.gz is missing
--dataset=mnist --manual_dir=good.png | train-images-idx3-ubyte.gz is missing
--dataset=mnist --manual_dir=archives/empty | has 0 bytes instead of 9,912,422
--dataset=mnist --manual_dir=archives/folder | is not a file
--dataset=mnist --manual_dir=archives/pipe | is not a file
--dataset=mnist --manual_dir=archives/device | is not a file
--dataset=mnist --manual_dir=archives/size | has the wrong SHA-256
--dataset=emnist/digits --manual_dir=archives/empty | gzip.zip is missing
--dataset=letters --data_dir=data/classes | classes
"""

EXPORT = """
--workdir=run | --output is missing
--workdir=run --output= | --output is empty
--workdir=run --output=run | 'run' holds a run: name another folder
--workdir=run --output=good.png | cannot write --output=good.png: Not a directory
--workdir=run --output=good.png/x | cannot write --output=good.png/x: Not a directory
--workdir=run --output=/dev/stdout | --output=/dev/stdout is no folder
--workdir=run --output=- | --output=- is no folder
--workdir=run --output=gs://bucket/small | --output=gs://bucket/small is a URL
--workdir=nowhere --output=out | no folder 'nowhere'; train first
--workdir=run --format=pb --output=out | --format
--workdir=run --format=onnx --output=runs | --output=runs is a folder: name a file
--workdir=run --format=stablehlo --output=good.png/x | cannot write --output=good.png/x: Not a directory
--workdir=nowhere --format=onnx --output=out | no folder 'nowhere'; train first
--workdir=files --output=out | holds no run
--workdir=runs/flipped --output=out | no intact checkpoint
--workdir=runs/newer --output=out | upgrade mnist_jax
--workdir=run --checkpoint=worst --output=out | checkpoint
"""

BENCHMARK = """
--only=nope | nope
--only=training,nope | nope
--repeats=0 | repeats=0
--repeats=x | repeats=x
--seconds=-1 | seconds=-1
--seconds=nan | --seconds=nan must be a finite number
--seconds=inf | --seconds=inf must be a finite number
--data=nope | data
--compare=nope | nope
--compare=torch --device=gpu | leave --device out
--page_workdir=run | --page_workdir is for --reading
--reading --only=training | --reading goes without --only
--config=nope.py | no config file 'nope.py'
--config.batch_size=0 | config.batch_size must be
--profile_dir=good.png | cannot write --profile_dir=good.png
--profile_dir=gs://bucket | --profile_dir=gs://bucket is a URL
--growth=good.png/x.png | cannot write --growth=good.png/x.png
--profile_dir=files --only=inference | add it to --only
--growth=x.txt --only=model | x.txt
--growth= | --growth is empty
--data=config --config.dataset=nope | no data set 'nope'
"""

SWEEP = """
--num_seeds=0 | num_seeds=0
--sweep.nope=1,2 | nope
--sweep=learning_rate | sweep
--sweep.batch_size=x | batch_size
--configs=nope.py | no config file 'nope.py'
--config=nope.py | no config file 'nope.py'
--config.validation=0 --sweep.seed=1,2 | validation
--workdir=good.png --sweep.batch_size=8,16 | cannot write --workdir=good.png
--configs=gs://bucket/a.py | is a URL
--baseline=7 --sweep.batch_size=8,16 | baseline
"""

DRAW = """
--port=-1 | port=-1
--port=70000 | port=70000
--port=http | port=http
--host= | --host is empty
--host=192.0.2.1 | --host=192.0.2.1 cannot be listened on
--host=192.0.2.1 --port=9 | --port=9 on 192.0.2.1 cannot be taken
--corrections= | --corrections is empty
--corrections=good.png | cannot write --corrections=good.png: Not a directory
--corrections=s3://bucket/x | --corrections=s3://bucket/x is a URL
--workdir=nowhere | no folder 'nowhere'; train first
--page_workdir=run | the run in 'run' is of no page net
--checkpoint=worst | checkpoint
--no_browser=perhaps | no_browser
"""

PREDICT = """
nowhere.png | no such file
files/zzz* | as a pattern it matches none
files | is a folder with no picture in it
good.png --top_k=0 | top_k=0
good.png --top_k=x | top_k=x
good.png --min_confidence=nan | --min_confidence=nan must be a finite number
good.png --min_confidence=-0.1 | min_confidence=-0.1
good.png --min_confidence=1.5 | min_confidence=1.5
good.png --format=xml | format
good.png --read=letter | read
good.png --workdir=nowhere | no folder 'nowhere'; train first
good.png --workdir=runs/flipped | no intact checkpoint
good.png --checkpoint=worst | checkpoint
good.png --output=files | is a folder: name a file
good.png --output=good.png/x | cannot write --output=good.png/x: Not a directory
good.png --output=s3://bucket/x | --output=s3://bucket/x is a URL
good.png --output= | --output is empty
good.png --output=/dev/full | cannot write --output=/dev/full: No space left
https://example.org/seven.png | is a URL: download the picture first
good.png --plot=x.txt | x.txt
good.png --plot=files | is a folder: name a file
good.png --draw=x.txt | end the name with .png
good.png --draw=good.png | is the picture to be read
good.png good.png --draw=x.png | takes one picture, and 2 are given
good.png --save_preprocessed=good.png | cannot write --save_preprocessed=good.png
good.png --save_preprocessed=good.png/x | cannot write --save_preprocessed=good.png/x
good.png --labels=nowhere.csv | nowhere.csv': No such file
good.png --labels=files | cannot read the labels
good.png --labels=pipe | cannot read the labels
good.png --labels=/dev/zero | cannot read the labels
good.png --labels=files/rows.csv | no row has a file name and a label
good.png --labels=good.png | no row has a file name and a label
--paths_from=nowhere | cannot read --paths_from=nowhere
--paths_from=files | is a folder: name a file of paths
--paths_from=files/empty.txt | names no picture
--paths_from=pipe | is a pipe or a device
--paths_from=/dev/zero | is a pipe or a device
--paths_from=- - | stdin can hold a picture, or --paths_from, but not both
--draw=x.png | --draw takes one picture, and 0 are given
--num_samples=0 | num_samples=0
--seed=-1 | seed=-1
- | is empty
"""

# ------------------------------------------------------------------------- pictures


def png(width: int, height: int, *extra: bytes) -> bytes:
    """The head of a PNG that says any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    body = [chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))]
    body += [chunk(b"IDAT", zlib.compress(data)) for data in extra]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + chunk(b"IEND", b"")


def encode(kind: str, **options: object) -> bytes:
    import io

    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


def array(values: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


PICTURES: dict[str, tuple[bytes, str]] = {  # a file's content, and the message
    "empty.png": (b"", "is empty"),
    "text.png": (b"hello", "not a BMP"),
    "html.jpg": (b"<!doctype html>", "not a BMP"),
    "magic.png": (b"\x89PNG\r\n\x1a\n", "not a BMP"),
    "cut.png": (encode("PNG")[:900], "damaged"),
    "cut.jpg": (encode("JPEG")[:900], "damaged"),
    "cut.gif": (encode("GIF")[:900], "damaged"),
    "cut.bmp": (encode("BMP")[:900], "damaged"),
    "cut.tif": (encode("TIFF")[:900], "damaged"),
    "cut.webp": (encode("WEBP")[:100], "damaged"),
    "cut.pgm": (b"P5 28 28 255 ", "damaged"),
    "words.pgm": (b"P2 2 2 255 a b c d", "damaged"),
    "bomb.png": (png(60_000, 60_000, bytes(99)), "more than 64 million pixels"),
    "wide.png": (png(2**31 - 1, 1, bytes(99)), "more than 64 million pixels"),
    "none.png": (png(0, 0), "not a BMP"),
    "crc.png": (encode("PNG").replace(b"IHDR", b"IHDX"), "not a BMP"),
    "bomb.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;", "more than 64 million"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a BMP"),
    "page.pdf": (b"%PDF-1.7\n", "PDFium cannot open it"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "damaged"),
    "zip.png": (b"PK\3\4" + bytes(60), "cannot be unpacked"),
    "url.txt": (b"data:image/png,7", "without base64"),
    "cut.txt": (b"data:image/png;base64,iVBORw0KGgo", "not a BMP"),
    "bytes.pdf": (b"%PDF-1.7\n" + bytes(999), "PDFium cannot open it"),
    "photo.avif": (b"\0\0\0\x18ftypavif\0\0\0\0", "damaged"),
    "objects.npy": (array(np.array([{}], object)), "not numbers"),
    "words.npy": (array(np.array(["a"])), "not numbers"),
    "batch.npy": (array(np.zeros((5, 20, 30))), "not that of one picture"),
    "point.npy": (array(np.float32(3)), "not that of one picture"),
    "nothing.npy": (array(np.zeros((0, 28))), "no pixels"),
    "nan.npy": (array(np.full((28, 28), np.nan)), "not finite"),
    "cut.npy": (array(np.zeros((28, 28)))[:500], "ends too early"),
    "huge.npy": (array(np.zeros((28, 28))).replace(b"(28, 28)", b"(9999, 9999999)"), "more than 64 million pixels"),
    "head.npy": (b"\x93NUMPY\1\0v\0{", "damaged"),
    "later.npy": (b"\x93NUMPY\7\0v\0{", "damaged"),
}  # fmt: skip
LINKS = {
    "folder.png": "is a folder with no picture in it",
    "pipe.png": "is a pipe or a device",
    "dangling.png": "no such file",
    "loop.png": "symbolic links",
    "device.png": "is a pipe or a device",
}

# ---------------------------------------------------------------------- prepared data


def info(**fields: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / "dataset_info.json"
        found = json.loads(path.read_text())
        for name, value in fields.items():
            if value is ...:
                del found[name]
            elif name in found["splits"][0]:
                found["splits"][0][name] = value
            else:
                found[name] = value
        path.write_text(json.dumps(found))

    return change


def shard(change: Callable[[bytes], bytes]) -> Change:
    def damage(folder: Path) -> None:
        (path,) = folder.glob("*train*")
        path.write_bytes(change(path.read_bytes()))

    return damage


INFO = "dataset_info.json"
DATA: dict[str, tuple[str, Change, str]] = {  # format, what is changed, the message
    "info_empty": ("tfrecord", write(INFO, b""), "not a tfds data set"),
    "info_text": ("tfrecord", write(INFO, b"hello"), "not a tfds data set"),
    "info_list": ("tfrecord", write(INFO, b"[]"), "not a tfds data set"),
    "info_deep": ("tfrecord", write(INFO, DEEP), "not a tfds data set"),
    "info_binary": ("tfrecord", write(INFO, bytes(range(256))), "not a tfds data set"),
    "no_splits": ("tfrecord", info(splits=...), "not a tfds data set"),
    "splits_number": ("tfrecord", info(splits=3), "not a tfds data set"),
    "no_train": ("tfrecord", info(splits=[]), "split"),
    "lengths_text": ("tfrecord", info(shardLengths=["x"]), "not a tfds data set"),
    "lengths_less": ("tfrecord", info(shardLengths=["7"]), "40 examples instead of 7"),
    "lengths_more": ("tfrecord", info(shardLengths=[str(10**15)]), "40 examples instead"),
    "lengths_negative": ("tfrecord", info(shardLengths=["-5"]), "examples instead"),
    "two_shards": ("tfrecord", info(shardLengths=["20", "20"]), "No such file"),
    "template": ("tfrecord", info(filepathTemplate="{NOPE}"), "not a tfds data set"),
    "template_number": ("tfrecord", info(filepathTemplate=3), "not a tfds data set"),
    "template_folder": ("tfrecord", info(filepathTemplate="/"), "is not a file"),
    "template_wide": ("tfrecord", info(filepathTemplate="{DATASET:>9999999999}"), "No such file"),
    "format": ("tfrecord", info(fileFormat="parquet"), "only array_record or tfrecord can be read"),
    "record_missing": ("tfrecord", lambda d: next(d.glob("*train*")).unlink(), "No such file"),
    "record_empty": ("tfrecord", shard(lambda b: b""), "0 examples instead of 40"),
    "record_cut": ("tfrecord", shard(lambda b: b[:-9]), "cut short or damaged"),
    "record_flip": ("tfrecord", shard(lambda b: b[:40] + bytes([b[40] ^ 1]) + b[41:]), "wrong CRC"),
    "record_length": ("tfrecord", shard(lambda b: b"\xff" * 8 + b[8:]), "cut short or damaged"),
    "record_text": ("tfrecord", shard(lambda b: b"hello"), "cut short"),
    "array_missing": ("array_record", lambda d: next(d.glob("*train*")).unlink(), "No such file"),
    "array_empty": ("array_record", shard(lambda b: b""), "cannot be read"),
    "array_cut": ("array_record", shard(lambda b: b[:-99]), "cannot be read"),
    "array_zero": ("array_record", shard(lambda b: bytes(len(b))), "cannot be read"),
    "array_flip": ("array_record", shard(lambda b: b[:9000] + bytes([b[9000] ^ 1]) + b[9001:]), "cannot be read"),
    "array_text": ("array_record", shard(lambda b: b"hello"), "cannot be read"),
}  # fmt: skip

SMOKE, NEW, RUN = "--config=smoke", "--workdir=new", "--workdir=run"
OFFLINE = [
    "--config.dataset=mnist",
    "--config.offline_dataset=",
    "--config.validation=5",
]
START = {  # what makes each script come to its end, were it not for the bad flag
    "train.py": (SMOKE, NEW),
    "evaluate.py": (RUN,),
    "draw.py": (RUN, "--no_browser"),
    "predict.py": (RUN,),
    "export.py": (RUN, "--output=out"),
    "benchmark.py": ("--only=model",),
    "sweep.py": (SMOKE, NEW),
}


def all_cases() -> Iterator[Case]:
    for script, start in START.items():
        table = ANY
        if script == "benchmark.py":
            table = "\n".join(t for t in ANY.splitlines() if "workd" not in t)
        if script == "export.py":
            table = "\n".join(t for t in ANY.splitlines() if "device" not in t)
        yield from read_table(script, table, *start)
        if script != "predict.py":
            yield from read_table(script, NO_ARGUMENTS, *start)
    yield from read_table("train.py", TRAIN, SMOKE, NEW)
    yield from field_cases()
    for name in CONFIG_FILES:
        argument = f"--config=files/{name}.py"
        message = f"files/{name}.py" if name != "bare" else "config.seed is missing"
        yield Case("train.py", [argument, NEW], message)
    for i, message in enumerate(CHANGED.values()):
        yield Case("train.py", [f"--config=files/changed_{i}.py", NEW], message)
    yield from read_table("evaluate.py", EVALUATE, RUN, "--figures=false")
    yield from read_table("export.py", EXPORT)
    yield from read_table("benchmark.py", BENCHMARK)
    yield from read_table("sweep.py", SWEEP, SMOKE, NEW)
    yield from read_table("predict.py", PREDICT, RUN)
    yield from read_table("draw.py", DRAW, RUN, "--no_browser")
    for name, (_, message) in RUNS.items():
        argument = f"--workdir=runs/{name}"
        yield Case("predict.py", [argument, "good.png"], message)
    for name, (_, message) in RESUMED.items():
        yield Case("train.py", [SMOKE, f"--workdir=runs/{name}", "--resume"], message)
    for name, message in [*((n, m) for n, (_, m) in PICTURES.items()), *LINKS.items()]:
        yield Case("predict.py", [RUN, f"pictures/{name}"], message)
    for name, (_, _, message) in DATA.items():
        where = f"--data_dir=data/{name}"
        yield Case("train.py", [SMOKE, NEW, *OFFLINE, where], message)


CASES = list(all_cases())


# --------------------------------------------------------------------------- the test


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with all the bad files, and some good ones."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(STORED / "0.1.0" / "run", folder / "run")
    for name, (change, _) in {**RUNS, **RESUMED}.items():
        shutil.copytree(folder / "run", folder / "runs" / name)
        change(folder / "runs" / name)
    Image.fromarray(make_dataset(1, 0).images[0, ..., 0]).save(folder / "good.png")
    files = folder / "files"
    files.mkdir()
    for name, content in CONFIG_FILES.items():
        (files / f"{name}.py").write_bytes(content.encode("latin-1"))
    for i, change in enumerate(CHANGED):
        (files / f"changed_{i}.py").write_text(
            "from configs import smoke\n\n\ndef get_config():\n"
            f"  config = smoke.get_config()\n  {change}\n  return config\n"
        )
    (files / "rows.csv").write_text("file,label\ngood.png,dog\n")
    (files / "empty.txt").write_text("\n\n")
    (files / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    pictures = folder / "pictures"
    pictures.mkdir()
    for name, (content, _) in PICTURES.items():
        (pictures / name).write_bytes(content)
    (pictures / "folder.png").mkdir()
    os.mkfifo(pictures / "pipe.png")
    (pictures / "dangling.png").symlink_to("nowhere")
    (pictures / "loop.png").symlink_to("loop.png")
    (pictures / "device.png").symlink_to("/dev/zero")
    splits = {"train": make_dataset(40, 0), "test": make_dataset(20, 1)}
    for file_format in ("tfrecord", "array_record"):
        good = folder / "data" / file_format
        write_prepared(good, splits, file_format=file_format)
    for name, (file_format, change, _) in DATA.items():
        shutil.copytree(folder / "data" / file_format, folder / "data" / name)
        change(folder / "data" / name / "mnist" / "3.0.1")
    write_prepared(
        folder / "data" / "classes", splits, name="letters", file_format="tfrecord"
    )
    features = folder / "data" / "classes" / "letters" / "3.0.1" / "features.json"
    features.write_text(features.read_text().replace('"10"', '"26"'))
    name = "train-images-idx3-ubyte.gz"
    for kind, make in {
        "empty": Path.touch,
        "folder": Path.mkdir,
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "size": lambda path: path.write_bytes(bytes(9_912_422)),
    }.items():
        (folder / "archives" / kind).mkdir(parents=True)
        make(folder / "archives" / kind / name)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, world) -> Iterator[Server]:
    nowhere = "http://127.0.0.1:9"  # no case has a reason to ask the network
    env = {
        "MNIST_JAX_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "TFDS_DATA_DIR": str(world / "no_data"),
        **dict.fromkeys(("http_proxy", "https_proxy"), nowhere),
    }
    with Server(tmp_path_factory.mktemp("server"), env) as server:
        yield server


@functools.cache
def sha256(path: str, *_: int) -> str:
    """Of a file as it was when its inode, size and times were these."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """What is in a folder: {path: kind, or the SHA-256 of a file}."""
    found, left = {}, [str(folder)]
    while left:
        for entry in os.scandir(left.pop()):
            if entry.is_symlink():
                what = f"link {os.readlink(entry)}"
            elif entry.is_file():
                s = entry.stat()
                times = (s.st_mtime_ns, s.st_ctime_ns)
                what = sha256(entry.path, s.st_ino, s.st_size, *times)
            elif entry.is_dir():
                what = "folder"
                left.append(entry.path)
            else:
                what = "other"
            found[entry.path.removeprefix(f"{folder}/")] = what
    return found


def test_there_are_many_cases():
    assert len(CASES) >= 200
    assert len({(script, *arguments) for script, arguments, _ in CASES}) == len(CASES)
    assert {script for script, _, _ in CASES} == {
        path.name for path in Path(__file__).parents[2].glob("scripts/*.py")
    }


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: " ".join((c.script, *c.arguments))[:99]
)
def test_bad_input_is_one_line_and_loses_nothing(case, world, server):
    before = digests(world)
    done = server.run(case.script, *case.arguments, cwd=world)
    lines = done.errors.splitlines()
    assert len(lines) == 1, done.errors[-2000:]
    assert lines[0].startswith(
        ("error: ", "warning: 1 of 1 pictures could not be read")
    )
    assert case.message in lines[0]
    assert 20 < len(lines[0]) < 1500
    assert done.returncode in (1, 2)
    assert done.memory < MAX_MEMORY
    after = digests(world)
    for name in ("new", "new/checkpoints"):  # may have been made, but hold no file
        assert after.pop(name, "folder") == "folder"
    shutil.rmtree(world / "new", ignore_errors=True)
    assert after == before
