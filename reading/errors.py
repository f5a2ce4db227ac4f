"""What can be wrong with a data file."""


class FileInvalid(Exception):
    """A file that cannot be read; says which, where in it, and what to do."""


class NotRead(FileInvalid):
    """There is no such file, or none of its kind is read: the call is wrong, and no file is damaged."""
