"""Checkpoints: the state of an unfinished training on disk, written after each epoch."""

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from eml.errors import UserError
from eml.training.loop import EpochRecord

KEPT_SECONDS = 30 * 24 * 3600  # older checkpoints are deleted
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A training after one of its epochs."""

    records: list[EpochRecord]  # one for each epoch so far
    state: Arrays  # from Learner.training_state

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return self.records[-1].epoch if self.records else 0


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
        private_folder()
        with suppress(Timeout):
            self.lock.acquire(blocking=wait)
        return self.lock.is_locked

    def release(self) -> None:
        self.lock.release()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint whole or not at all, also if the machine loses its power.

        Raises OSError if it cannot be written.
        """
        records = json.dumps([asdict(record) for record in checkpoint.records])
        # safetensors ignores strides, so arrays must be contiguous.
        arrays = {name: np.asarray(array, order="C") for name, array in checkpoint.state.items()}
        part = self.file.with_suffix(".part")
        try:
            save_file(arrays, part, {"records": records})
        except SafetensorError as error:
            raise OSError(str(error)) from error
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(self.file)

    def load(self) -> Checkpoint | None:
        """The checkpoint, also of a slot that is not held; None without one, or if damaged."""
        # A damaged file may raise anything.
        with suppress(Exception), safe_open(self.file, framework="numpy") as content:
            records = json.loads(content.metadata()["records"])
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            return Checkpoint([EpochRecord(**values) for values in records], arrays)
        return None

    def remove(self) -> None:
        """Delete the checkpoint and release the slot, because the run is over."""
        for suffix in (".safetensors", ".part"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)
        self.release()
        self.file.with_suffix(".lock").unlink(missing_ok=True)

    def age(self) -> float:
        """Seconds since the checkpoint was saved; 0 if the run has just ended."""
        with suppress(FileNotFoundError):
            return time.time() - self.file.stat().st_mtime
        return 0.0


def directory() -> Path:
    """The user's folder in $EML_CHECKPOINT_DIR; by default in the user's cache directory."""
    chosen = os.environ.get("EML_CHECKPOINT_DIR")
    if not chosen:
        return platformdirs.user_cache_path("eml") / "checkpoints"
    if not Path(chosen).expanduser().is_absolute():
        raise UserError(f"EML_CHECKPOINT_DIR={chosen}: give an absolute path")
    return Path(chosen).expanduser() / f"user-{os.getuid()}"


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise UserError in place of OSError. Also a decorator."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"no checkpoints can be kept in {directory()}: {error.strerror or error}; set "
            "EML_CHECKPOINT_DIR to a folder that can be written"
        ) from error


@_one_line_errors()
def private_folder(*names: str) -> Path:
    """Make directory(), or a folder below it, which this user alone can read and write.

    It also holds pickles, of jobs. Raises UserError if another user could write there, or if the
    folder cannot be made.
    """
    folder = directory()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "the folder belongs to another user")
    folder.chmod(0o700)
    folder.joinpath(*names).mkdir(parents=True, exist_ok=True)
    return folder.joinpath(*names)


@contextmanager
def claiming() -> Iterator[BaseFileLock]:
    """Exclude other processes that look for slots; delete checkpoints older than KEPT_SECONDS.

    Raises UserError if the folder cannot be written.
    """
    with _one_line_errors():
        held = FileLock(private_folder() / "claiming.lock").acquire()
    with held as lock:
        for slot in slots("*"):
            if slot.age() > KEPT_SECONDS and slot.acquire():
                slot.remove()
        yield lock


@_one_line_errors()
def new_slot(digest: str, checkpoint: Checkpoint) -> Slot:
    """A new slot, held, with this checkpoint. Raises UserError if it cannot be written."""
    slot = Slot(digest, uuid.uuid4().hex)
    slot.acquire()
    slot.save(checkpoint)
    return slot


def slots(digest: str) -> list[Slot]:
    """All slots with this digest, or with any if "*", newest first, held or not."""
    files = directory().glob(f"{digest}.*.safetensors")
    return sorted([Slot(*file.stem.split(".", 1)) for file in files], key=Slot.age)
