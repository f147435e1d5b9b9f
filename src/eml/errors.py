"""The base of the errors that a user can mend."""

from eml.text import printable


class UserError(Exception):
    """Shown as its message alone, without a traceback; the process ends with `exit_code`."""

    exit_code = 2

    def shown(self) -> str:
        """The message as a person should see it: in a line, whatever values it repeats."""
        return printable(self)


class CheckError(UserError):
    """Two ways to the same number do not agree: a fault of the program, or of the machine."""

    exit_code = 1
