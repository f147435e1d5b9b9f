"""Errors that a user can fix, and text that is safe to show: short, printable, no passwords."""

import os
import re

LONGEST = 2000  # characters of a message; every store accepts tags of 5,000
# "user:password@" or "token@" before the host of a URI. A password may hold "/" and "@". The bounds
# keep the time linear in the length of a text.
_CREDENTIALS = re.compile(
    r"""(\w[\w+.-]{0,30}://)(?:[^\s/@:'"]{0,1000}:[^\s'"]{0,1000}|[^\s/@:'"]{1,1000})@"""
)
_PARAMETER = re.compile(r"""(?i)\b(password|passwd|pwd|token|secret)=[^\s&;,'"]+""")


def redacted(text: str) -> str:
    """`text` without user and password of URIs, and with the values of `password=` hidden.

    Every URI and error that is printed or stored passes through this function.
    """
    # Replace the credentials of the store's own URI literally: a password may hold any character.
    _, _, rest = os.environ.get("MLFLOW_TRACKING_URI", "").partition("://")
    user, at, _ = rest.rpartition("@")
    if at and not user.startswith("/"):
        text = text.replace(user + at, "")
    return _PARAMETER.sub(r"\1=***", _CREDENTIALS.sub(r"\1", text))


def printable(text: object, longest: int = LONGEST) -> str:
    """`text` redacted, in one line, with control characters escaped and a long middle cut out.

    For text that a user typed or a store holds: it may control a terminal, or be very long.
    """
    line = redacted(str(text))
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > longest:
        half = (longest - 5) // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return line


class UserError(Exception):
    """Shown as its message, without a traceback; the process ends with `exit_code`."""

    exit_code = 2

    def shown(self) -> str:
        """The message to show: one line, whatever values it quotes."""
        return printable(self)


class CheckError(UserError):
    """Two computations of one number disagree: a bug, or a fault of the machine."""

    exit_code = 1
