"""MNIST and CIFAR-10 as verified uint8 arrays from one cache folder."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from eml.download import Limits
from eml.errors import UserError
from eml.sources import Arrays, SourceError, sources
from eml.text import printable

LARGEST_HEADERS = 10_000  # bytes that a cache file has besides the values


class DataError(UserError):
    """The data cannot be had; the message lists every source with its reason, a line each."""

    exit_code = 1

    def shown(self) -> str:
        return "\n".join(map(printable, str(self).splitlines()))


@dataclass(frozen=True)
class Scaling:
    """pixel byte b -> (b / 255 - mean) / std, computed as b * factor + offset."""

    mean: float
    std: float

    @property
    def factor(self) -> float:
        return 1 / (255 * self.std)

    @property
    def offset(self) -> float:
        return -self.mean / self.std


@dataclass(frozen=True)
class Spec:
    """What is known of a dataset before it is there."""

    title: str
    image_shape: tuple[int, ...]
    train_size: int
    test_size: int
    scaling: Scaling
    files: str  # the official ones, for someone who places them by hand
    sha256: dict[str, str]  # of each array's bytes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the four arrays, by the keys of sha256."""
        sizes = {"train": self.train_size, "test": self.test_size}
        images = {f"{split}_images": (n, *self.image_shape) for split, n in sizes.items()}
        return images | {f"{split}_labels": (n,) for split, n in sizes.items()}


# The digests are those of arrays decoded from the official files.
SPECS = {
    "mnist": Spec(
        title="MNIST",
        image_shape=(28, 28),
        train_size=60000,
        test_size=10000,
        scaling=Scaling(mean=0.1307, std=0.3081),
        files="the four files {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz",
        sha256={
            "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
            "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        },
    ),
    "cifar10": Spec(
        title="CIFAR-10",
        image_shape=(3, 32, 32),
        train_size=50000,
        test_size=10000,
        scaling=Scaling(mean=0.0, std=1.0),
        files="cifar-10-python.tar.gz (MD5 c58f30108f718f92721af3b95e74349a)",
        sha256={
            "train_images": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
            "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "test_images": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
            "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        },
    ),
}


@dataclass(frozen=True)
class Dataset:
    """Images and labels by split: "train", and "validation" or "test" to evaluate on.

    images: uint8, (n, 28, 28) or (n, 3, 32, 32); labels: int64, (n,), 0 to 9.
    digest: 32 hexadecimal digits that change with any image, label, or their order.
    """

    name: str
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    scaling: Scaling
    digest: str


def load(name: str, subset: int = 0, seed: int = 1, validation: int = 0) -> Dataset:
    """A dataset from the cache, fetched first if need be.

    subset: keep that many training images and a fifth as many test images, as equally many of
        each class as there are; 0 keeps all. The same `seed` takes the same images.
    validation: hold that many of the training images out, balanced likewise, and give them in
        place of the test images, which nobody who chooses anything should see.

    Raises DataError if no source has it intact.
    """
    arrays = fetch(name)
    images = {split: arrays[f"{split}_images"] for split in ("train", "test")}
    labels = {split: arrays[f"{split}_labels"].astype(np.int64) for split in ("train", "test")}
    digests = SPECS[name].sha256
    if subset:
        rng = np.random.default_rng([seed, 0])  # epoch 0: its order is not used (train.order_of)
        for split, size in (("train", subset), ("test", subset // 5)):
            chosen = balanced(labels[split], size, rng)
            images[split] = images[split][chosen]
            labels[split] = labels[split][chosen]
    if validation:
        # Three numbers, and a third that nothing else has (numpy_mlp.initial_weights).
        rng = np.random.default_rng([seed, 0, 2])
        held_out = np.zeros(len(labels["train"]), bool)
        held_out[balanced(labels["train"], validation, rng)] = True
        for split in (images, labels):
            del split["test"]
            split["validation"] = split["train"][held_out]
            split["train"] = split["train"][~held_out]
    if subset or validation:
        digests = {f"{s}_images": _sha256(images[s]) for s in images}
        digests |= {f"{s}_labels": _sha256(labels[s]) for s in labels}
    digest = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode())
    return Dataset(name, images, labels, SPECS[name].scaling, digest.hexdigest()[:32])


def balanced(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `size` labels, ascending, as equally many of each class as there are.

    All labels if there are not as many as `size`.
    """
    by_class = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    rank = np.concatenate([np.arange(len(members)) for members in by_class])
    # Every class's first image, then every class's second, ...; a class that runs out drops out.
    turn = np.argsort(rank, kind="stable")
    return np.sort(np.concatenate(by_class)[turn][:size])


def cache_directory() -> Path:
    """$EML_DATA_DIR, else the user's cache directory."""
    chosen = os.environ.get("EML_DATA_DIR")
    if not chosen:
        return platformdirs.user_cache_path("eml")
    if not Path(chosen).expanduser().is_absolute():
        # `mlflow run` changes the directory, so a relative path would be two folders.
        raise UserError(f"EML_DATA_DIR={chosen}: give an absolute path")
    return Path(chosen).expanduser()


def cache_file(name: str) -> Path:
    """Where the arrays of a dataset are kept."""
    return cache_directory() / f"{name}.npz"


def fetch(name: str, folder: Path | None = None, limits: Limits | None = None) -> Arrays:
    """The four arrays of a dataset, verified, from the cache or the first source that has them.

    folder: an existing torchvision folder to look in first (default: $EML_TORCHVISION_DIR).
    limits: how long and how slow a download may be.

    Raises DataError if no source has it intact.
    """
    file = cache_file(name)
    if folder is None and os.environ.get("EML_TORCHVISION_DIR"):
        folder = Path(os.environ["EML_TORCHVISION_DIR"]).expanduser()
    try:
        # A file that is there is whole, and its folder may be read-only: no lock to read.
        with suppress(SourceError, OSError):
            return _read(name, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(file):  # of processes that start together, one downloads
            try:
                return _read(name, file)
            except FileNotFoundError:
                pass
            except SourceError as error:
                file.unlink()
                print(printable(f"deleted {file}, which was damaged: {error}"), flush=True)
            return _fetch_and_keep(name, file, folder, limits or Limits())
    except (OSError, MemoryError) as error:
        raise DataError(f"{file.parent} cannot be used as cache: {_reason(error)}") from error


def _read(name: str, file: Path) -> Arrays:
    """The verified content of the cache file.

    Raises OSError if the file cannot be opened, and SourceError if its content is damaged.
    """
    shapes = SPECS[name].shapes
    if not 0 <= file.stat().st_size - sum(map(prod, shapes.values())) < LARGEST_HEADERS:
        raise SourceError("it has another size than the arrays")
    with file.open("rb") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                arrays = {key: _read_array(archive, key, shape) for key, shape in shapes.items()}
        except MemoryError:  # the machine has too little memory: the file may be intact
            raise
        except Exception as error:  # damaged bytes may raise anything, also OSError
            raise SourceError(_reason(error)) from error
    _verify(name, arrays)
    return arrays


def _read_array(archive: zipfile.ZipFile, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array of the cache file, which np.savez wrote; allocates no more than `shape` needs."""
    member = archive.getinfo(f"{key}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # a few kB could expand to gigabytes
        raise SourceError(f"{key} is compressed")
    with archive.open(member) as stream:
        np.lib.format.read_magic(stream)
        if np.lib.format.read_array_header_1_0(stream) != (shape, False, np.dtype(np.uint8)):
            raise SourceError(f"{key} has another shape or type")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    lock = FileLock(f"{file}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"waiting for another process that fetches {file.name}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch_and_keep(name: str, file: Path, folder: Path | None, limits: Limits) -> Arrays:
    reasons = []
    downloads = file.parent / f"{name}.download"  # stays after a failure, to resume from
    for source in sources(name, folder, limits, SPECS[name].shapes):
        # A folder each: what one source sent is never continued with another's bytes.
        work = downloads / hashlib.sha256(source.name.encode()).hexdigest()[:8]
        work.mkdir(parents=True, exist_ok=True)
        try:
            arrays = source.fetch(work)
            _verify(name, arrays)
        except Exception as error:  # a parser may raise anything on what comes from elsewhere
            reason = printable(f"{source.name}: {_reason(error)}")
            print(f"{SPECS[name].title} from {reason}", flush=True)
            reasons.append(f"  {reason}")
            # A complete file that was refused would be refused again.
            for refused in work.iterdir():
                if refused.suffix != ".part":
                    refused.unlink()
            continue
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.savez(stream, **arrays)
        part.replace(file)
        shutil.rmtree(downloads)
        return arrays
    raise DataError(
        f"{SPECS[name].title} is not in the cache ({file.parent}) and no source has it:\n"
        + "\n".join(reasons)
        + f"\nTo place it by hand: put {SPECS[name].files} into a folder, and run: "
        f"eml data {name} --torchvision_dir FOLDER"
    )


def _reason(error: Exception) -> str:
    expected = isinstance(error, SourceError | OSError)
    return printable(error if expected else f"{type(error).__name__}: {error}", 300)


def _verify(name: str, arrays: Arrays) -> None:
    for key, expected in SPECS[name].sha256.items():
        array = arrays[key]
        same = array.dtype == np.uint8 and array.shape == SPECS[name].shapes[key]
        if not same or _sha256(array) != expected:
            raise SourceError(f"{key.replace('_', ' ')} are not those of {SPECS[name].title}")


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
