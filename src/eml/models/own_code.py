"""Code of a user, in the place of eml's networks: how it is read, executed and blamed.

It is executed only if the user names the file (`code=`) and the file has the SHA-256 that was asked
for: never from a store or an archive.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from eml.config import ConfigError
from eml.errors import UserError, redacted

NAME = "own_code"  # of its module


def sha256_of(source: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(source).hexdigest()


def read(path: str, sha256: str = "") -> bytes:
    """Read the file. Raises UserError if that fails, or if its SHA-256 is another one."""
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        remedy = "give a Python file, with `mlflow run` by its absolute path"
        raise ConfigError(f"code={path}: {error.strerror}; {remedy}") from None
    if sha256 and sha256_of(source) != sha256:
        raise UserError(f"{path} has changed since it was submitted: give the command again")
    return source


def load(path: str, sha256: str) -> ModuleType:
    """Execute the file with this SHA-256, and return its module. Raises UserError if it fails."""
    source, folders = read(path, sha256), (Path(path).resolve().parent, Path(path).parent.resolve())
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{Path(path).name}: {error}") from None
    # A module beside the file would escape the SHA-256, so it is not found.
    beside = [p for p in sys.path if Path(p).resolve() in folders and not Path(p, "eml").is_dir()]
    sys.path[:] = [entry for entry in sys.path if entry not in beside]
    module = sys.modules[NAME] = ModuleType(NAME)
    module.__file__ = path
    with errors_shown():
        exec(code, vars(module))
    return module


@contextmanager
def errors_shown(blamed: str = "") -> Iterator[None]:
    """Print the traceback of an error in the code, from its file on, and raise UserError.

    An error elsewhere passes through, unless a file is to be blamed for it. Also a decorator.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_globals.get("__name__") != NAME:
            trace = trace.tb_next
        if trace is None and not blamed:
            raise
        lines = [(f, n) for f, n in traceback.walk_tb(trace) if f.f_globals.get("__name__") == NAME]
        for frame, number in lines[-1:]:
            blamed = f"{Path(frame.f_code.co_filename).name}, line {number}"
        reason = " ".join(traceback.format_exception_only(error)[-1].split())
        if isinstance(error, ImportError):
            reason += "; put all code of your own in one file"
        if isinstance(error, NotImplementedError) and str(error):
            reason = str(error)
        elif trace:
            text = "".join(traceback.format_exception(type(error), error, trace))
            print(redacted(text), end="", file=sys.stderr, flush=True)
        raise UserError(f"{blamed}: {reason}") from None
