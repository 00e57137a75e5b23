"""On the PYTHONPATH of a suite: its process, and each Python that it starts, calls `install`."""

try:
    import noinherit
except ModuleNotFoundError:
    pass  # a Python in a virtual environment that the suite has made
else:
    noinherit.install()
