"""Makes text safe to show or store: no passwords, no control characters, bounded length."""

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
    if not line.isprintable():
        line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > longest:
        half = (longest - 5) // 2
        line = f"{line[:half]} ... {line[-half:]}"
    return line


def duration(seconds: float) -> str:
    """A duration for people: "40 s", "12 min", "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
