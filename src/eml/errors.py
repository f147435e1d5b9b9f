"""Base classes of the errors that a user can fix."""

from eml.text import printable


class UserError(Exception):
    """Shown as its message, without a traceback; the process ends with `exit_code`."""

    exit_code = 2

    def shown(self) -> str:
        """The message to show: one line, whatever values it quotes."""
        return printable(self)


class CheckError(UserError):
    """Two computations of one number disagree: a bug, or a fault of the machine."""

    exit_code = 1
