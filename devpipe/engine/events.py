"""What happens in a run, as those who follow it hear of it: from any thread, from its beginning."""

from __future__ import annotations

import threading
from collections.abc import Callable

from devpipe.record.events import Event, Recorded

LiveEvent = Recorded | Event  # stored events come with seq and time, transient ones bare


class LiveEvents:
    """The stored events of a run so far, and its followers."""

    def __init__(self) -> None:
        self._stored: list[Recorded] = []
        self._followers: dict[object, Callable[[LiveEvent], None]] = {}
        self._lock = threading.RLock()  # a callback may look at the run it follows

    @property
    def stored(self) -> tuple[Recorded, ...]:
        """All stored events so far."""
        with self._lock:
            return tuple(self._stored)

    def publish(self, event: LiveEvent) -> None:
        """Take one event in and show it to the followers.

        A follower that fails is dropped: it must not stop the run.
        """
        with self._lock:
            if isinstance(event, Recorded):
                self._stored.append(event)
            followers = list(self._followers.items())
        for key, callback in followers:
            try:
                callback(event)
            except Exception:  # a panel's fault is the panel's: widgets guard their own callbacks
                self._unfollow(key)

    def follow(self, callback: Callable[[LiveEvent], None]) -> Callable[[], None]:
        """Call back for every stored event so far, then for everything that happens.

        Gives back a function that ends the following.
        """
        with self._lock:
            for recorded in self._stored:
                callback(recorded)
            key = object()
            self._followers[key] = callback
        return lambda: self._unfollow(key)

    def _unfollow(self, key: object) -> None:
        with self._lock:
            self._followers.pop(key, None)
