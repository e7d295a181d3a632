"""The one exception that lowdose raises for anything a user can put right."""


class LowdoseError(Exception):
    """Bad input, a missing device or an unreadable file.

    The message says what was given, what is expected and what to do. The command line prints
    it without a traceback and exits with code 2.
    """
