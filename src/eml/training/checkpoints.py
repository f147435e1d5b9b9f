"""Trainings under way, kept on disk after each epoch, so that an interrupted one can go on."""

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from eml.errors import UserError
from eml.training.loop import EpochRecord

KEPT_SECONDS = 30 * 24 * 3600  # what nobody took up again in that time is deleted


@dataclass(frozen=True)
class Checkpoint:
    """A training after one of its epochs."""

    records: list[EpochRecord]  # of all epochs so far
    timestamps: list[int]  # when each was logged, in milliseconds since 1970
    state: dict[str, np.ndarray]  # as Learner.training_state returned it


class Place:
    """Where the checkpoint of one run lies. A lock tells whether the run's process is alive."""

    def __init__(self, digest: str, name: str):
        """digest: of what the run does (digests.py), the same for runs that do the same.

        name: of the place alone; the run has it in a tag.
        """
        self.name = name
        self.file = directory() / digest / f"{name}.safetensors"
        self.lock = FileLock(self.file.with_suffix(".lock"))

    def hold(self, wait: bool = False) -> bool:
        """Claim the place until release(), remove(), or the end of the process.

        Returns whether it was free. wait: until it is.
        """
        _make_folder(self.file.parent)
        try:
            self.lock.acquire(blocking=wait)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        self.lock.release()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, all of it or nothing. Raises OSError if it cannot be written."""
        metadata = {
            "records": json.dumps([asdict(record) for record in checkpoint.records]),
            "timestamps": json.dumps(checkpoint.timestamps),
        }
        part = self.file.with_suffix(".part")
        # safetensors writes the memory as it lies, whatever the strides say.
        state = {name: np.asarray(value, order="C") for name, value in checkpoint.state.items()}
        try:
            save_file(state, part, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        part.replace(self.file)

    def load(self) -> Checkpoint | None:
        """The checkpoint; None if there is none or it is damaged."""
        # A damaged file may raise anything.
        with suppress(Exception), safe_open(self.file, framework="numpy") as content:
            metadata = content.metadata()
            checkpoint = Checkpoint(
                [EpochRecord(**values) for values in json.loads(metadata["records"])],
                [int(timestamp) for timestamp in json.loads(metadata["timestamps"])],
                {name: content.get_tensor(name) for name in content.keys()},  # noqa: SIM118
            )
            if len(checkpoint.records) == len(checkpoint.timestamps):
                return checkpoint
        return None

    def epochs(self) -> int:
        """How many epochs are kept; whether the place is held or not."""
        with suppress(Exception), safe_open(self.file, framework="numpy") as content:
            records = json.loads(content.metadata()["records"])
            return int(records[-1]["epoch"]) if records else 0
        return 0

    def remove(self) -> None:
        """Delete the checkpoint and give the place back: the run has ended as it should."""
        for suffix in (".safetensors", ".part"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)
        self.release()
        self.file.with_suffix(".lock").unlink(missing_ok=True)
        with suppress(OSError):  # another run's place is there too
            self.file.parent.rmdir()


def directory() -> Path:
    """A folder of this user in $EML_CHECKPOINT_DIR, else one in the user's cache directory."""
    chosen = os.environ.get("EML_CHECKPOINT_DIR")
    if not chosen:
        return platformdirs.user_cache_path("eml") / "checkpoints"
    if not Path(chosen).expanduser().is_absolute():
        raise UserError(f"EML_CHECKPOINT_DIR={chosen}: give an absolute path")
    return Path(chosen).expanduser() / f"user-{os.getuid()}"


def _make_folder(folder: Path) -> None:
    """Make a folder in directory(), which nobody else may enter: Slurm's jobs are pickles there."""
    directory().parent.mkdir(parents=True, exist_ok=True)
    directory().mkdir(mode=0o700, exist_ok=True)
    found = directory().stat()
    if found.st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "the folder belongs to another user")
    if found.st_mode & 0o077:
        directory().chmod(0o700)
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def claiming() -> Iterator[None]:
    """Alone in finding out which places are free: who asks holds each one for a moment.

    Raises UserError if no place can be held here.
    """
    with _said_in_a_line():
        _make_folder(directory())
        lock = FileLock(directory() / "claiming.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def new_place(digest: str, checkpoint: Checkpoint) -> Place:
    """A place of its own for a run that begins, held. Raises UserError if it cannot be written."""
    place = Place(digest, uuid.uuid4().hex)
    with _said_in_a_line():
        place.hold()
        place.save(checkpoint)
    return place


@contextmanager
def _said_in_a_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"no checkpoints can be kept in {directory()}: {error.strerror or error}; set "
            "EML_CHECKPOINT_DIR to a folder that can be written"
        ) from error


def places(digest: str) -> list[Place]:
    """The places of runs that do what `digest` says, newest first; held by others or not."""
    files = sorted((directory() / digest).glob("*.safetensors"), key=_age)
    return [Place(digest, file.stem) for file in files]


def free_places(digest: str) -> list[Place]:
    """Those whose run's process is gone, newest first, each held."""
    with claiming():
        _tidy_up()
        return [place for place in places(digest) if place.hold()]


def _tidy_up() -> None:
    for file in directory().glob("*/*.safetensors"):
        if _age(file) > KEPT_SECONDS:
            place = Place(file.parent.name, file.stem)
            if place.hold():
                place.remove()


def _age(file: Path) -> float:
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:  # its run has ended meanwhile
        return 0.0
