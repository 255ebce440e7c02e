"""What goes wrong at the edges. Each message names what was wrong, where, and the mend, in one sentence."""


class MibenchError(Exception):
    """The mother of our errors; the command line prints its message and exits with `code`."""

    code = 2


class UsageError(MibenchError):
    """A wrong name, parameter or combination on the command line or in a suite."""


class DataError(MibenchError):
    """Samples that cannot be used: an empty folder, an unreadable image, a label outside the classes."""


class ModelError(MibenchError):
    """A network or weights that cannot be used: NaN weights, a pickle with code, a layer that is not there."""


class RecordError(MibenchError):
    """A run folder that cannot be written or is in use."""
