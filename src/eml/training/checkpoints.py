"""Checkpoints: the state of an unfinished training on disk, written after each epoch."""

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from eml.errors import UserError
from eml.training.loop import EpochRecord

BEST = "best epoch: "  # the beginning of the names of Checkpoint.best in the file
KEPT_SECONDS = 30 * 24 * 3600  # older checkpoints are deleted


@dataclass(frozen=True)
class Checkpoint:
    """A training after one of its epochs."""

    records: list[EpochRecord]  # one for each epoch so far
    timestamps: list[int]  # of the records, in milliseconds since 1970
    state: dict[str, np.ndarray]  # from Learner.training_state
    # The weights of the best epoch so far; empty where an older version of eml did not keep them.
    best: dict[str, np.ndarray] = field(default_factory=dict)


class Slot:
    """The slot of one run's checkpoint. Its lock tells whether the run's process lives."""

    def __init__(self, digest: str, name: str):
        """digest: training or plan digest (digests.py), shared by runs that do the same.

        name: unique name of the slot, which the run has as a tag.
        """
        self.name = name
        # All slots are in one folder, which stays: a folder for each digest would have to go with
        # its last slot, while another process lists it or makes its own slot in it.
        self.file = directory() / f"{digest}.{name}.safetensors"
        self.lock = FileLock(self.file.with_suffix(".lock"))

    def acquire(self, wait: bool = False) -> bool:
        """Hold the slot until release(), remove(), or the end of the process.

        Returns whether the slot was free. wait: wait until it is free.
        """
        _make_directory()
        try:
            self.lock.acquire(blocking=wait)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        self.lock.release()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint atomically, and for good: also if the machine loses its power.

        Raises OSError if it cannot be written.
        """
        metadata = {
            "records": json.dumps([asdict(record) for record in checkpoint.records]),
            "timestamps": json.dumps(checkpoint.timestamps),
        }
        part = self.file.with_suffix(".part")
        # safetensors ignores strides, so arrays must be contiguous.
        best = {BEST + name: value for name, value in checkpoint.best.items()}
        arrays = {
            name: np.asarray(value, order="C") for name, value in (checkpoint.state | best).items()
        }
        try:
            save_file(arrays, part, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _to_disk(part)
        part.replace(self.file)
        _to_disk(self.file.parent)

    def load(self) -> Checkpoint | None:
        """The checkpoint; None without one, or if it is damaged."""
        # A damaged file may raise anything.
        with suppress(Exception), safe_open(self.file, framework="numpy") as content:
            metadata = content.metadata()
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            checkpoint = Checkpoint(
                [EpochRecord(**values) for values in json.loads(metadata["records"])],
                [int(timestamp) for timestamp in json.loads(metadata["timestamps"])],
                {name: array for name, array in arrays.items() if not name.startswith(BEST)},
                {name[len(BEST) :]: arrays[name] for name in arrays if name.startswith(BEST)},
            )
            if len(checkpoint.records) == len(checkpoint.timestamps):
                return checkpoint
        return None

    def epochs(self) -> int:
        """Number of epochs in the checkpoint. Works without holding the slot."""
        with suppress(Exception), safe_open(self.file, framework="numpy") as content:
            records = json.loads(content.metadata()["records"])
            return int(records[-1]["epoch"]) if records else 0
        return 0

    def remove(self) -> None:
        """Delete the checkpoint and release the slot, because the run is over."""
        for suffix in (".safetensors", ".part"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)
        self.release()
        self.file.with_suffix(".lock").unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def directory() -> Path:
    """The user's folder in $EML_CHECKPOINT_DIR; by default in the user's cache directory."""
    chosen = os.environ.get("EML_CHECKPOINT_DIR")
    if not chosen:
        return platformdirs.user_cache_path("eml") / "checkpoints"
    if not Path(chosen).expanduser().is_absolute():
        raise UserError(f"EML_CHECKPOINT_DIR={chosen}: give an absolute path")
    return Path(chosen).expanduser() / f"user-{os.getuid()}"


def _make_directory() -> None:
    """Make directory(), which is private: it also holds pickles of jobs."""
    directory().parent.mkdir(parents=True, exist_ok=True)
    directory().mkdir(mode=0o700, exist_ok=True)
    found = directory().stat()
    if found.st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "the folder belongs to another user")
    if found.st_mode & 0o077:
        directory().chmod(0o700)


def private_folder(*names: str) -> Path:
    """A folder below directory() that this user alone can read and write: for pickles, say.

    Raises UserError if another user could write there, or if it cannot be made.
    """
    folder = directory().joinpath(*names)
    with _said_in_a_line():
        _make_directory()
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def claiming() -> Iterator[None]:
    """Exclude other processes that look for free slots: each look holds a slot for a moment.

    Raises UserError if the folder cannot be written.
    """
    with _said_in_a_line():
        _make_directory()
        lock = FileLock(directory() / "claiming.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def new_slot(digest: str, checkpoint: Checkpoint) -> Slot:
    """A new slot, held, with this checkpoint. Raises UserError if it cannot be written."""
    slot = Slot(digest, uuid.uuid4().hex)
    with _said_in_a_line():
        slot.acquire()
        slot.save(checkpoint)
    return slot


@contextmanager
def _said_in_a_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"no checkpoints can be kept in {directory()}: {error.strerror or error}; set "
            "EML_CHECKPOINT_DIR to a folder that can be written"
        ) from error


def slots(digest: str) -> list[Slot]:
    """All slots with this digest, newest first, held or not."""
    return [_slot_of(file) for file in sorted(_files(digest), key=_age)]


def free_slots(digest: str) -> list[Slot]:
    """The slots with this digest whose processes died, newest first; all are held now."""
    with claiming():
        _tidy_up()
        return [slot for slot in slots(digest) if slot.acquire()]


def _tidy_up() -> None:
    for file in _files("*"):
        if _age(file) > KEPT_SECONDS:
            slot = _slot_of(file)
            if slot.acquire():
                slot.remove()


def _files(digest: str) -> Iterator[Path]:
    return directory().glob(f"{digest}.*.safetensors")


def _slot_of(file: Path) -> Slot:
    digest, _, name = file.stem.partition(".")
    return Slot(digest, name)


def _age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:  # its run has just ended
        return 0.0
