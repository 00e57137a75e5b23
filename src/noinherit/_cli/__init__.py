"""The ``noinherit`` command: a file for each of its commands, and `main`, which chooses."""
