"""Shows how far it is, a line every few seconds."""

from __future__ import annotations

import threading
import time

_EVERY = 5.0


class Progress:
    """Counts to `total`, from any thread."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._lock = threading.Lock()
        self._began = self._told = time.monotonic()

    def take(self) -> bool:
        """Return whether there is one more to do, and count it."""
        with self._lock:
            if self.done == self.total:
                return False
            self.done += 1
            now = time.monotonic()
            if self.done == self.total or now - self._told > _EVERY:
                self._told = now
                rate = self.done / max(now - self._began, 1e-3)
                print(f"{self.what}: {self.done:,} of {self.total:,}, {rate:,.0f}/s", flush=True)
            return True
