"""The base of the errors that a user can mend."""


class UserError(Exception):
    """Shown as its message alone, without a traceback; the process ends with `exit_code`."""

    exit_code = 2


class CheckError(UserError):
    """Two ways to the same number do not agree: a fault of the program, or of the machine."""

    exit_code = 1
