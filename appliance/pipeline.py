"""The machinery under the flow: a hand-over slot, stage threads, the first error, a bounded shutdown.

What the stages do is in `stages`; who is wired to whom is in `app`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from appliance.errors import StageStuck
from appliance.progress import Progress, StopEvent

T = TypeVar("T")
_log = logging.getLogger(__name__)

JOIN_S = 1.2
"""How long all stages together may take to end once they were told to."""
_LAST_JOIN_S = 0.2
"""How long they have at least once the main thread has ended too: its end may take as long as theirs."""
STUCK_S = 15.0
"""How long a stage may work on one item. The limits of the sources themselves are shorter (10 s at most)."""
_CHECK_S = 1.0
"""No wait is longer than this without a look around, even if a wake-up were lost."""


class Closed(Exception):
    """The producer has ended cleanly and everything it put has been taken."""


class Stopped(Exception):
    """The pipeline is being stopped: leave now."""


class Slot(Generic[T]):
    """Hands items from one thread to another, one at a time.

    With `newest_wins` a `put` replaces what has not been taken yet; otherwise it waits until that is taken.
    Its waits are declared ones, and each call is progress of the stage that calls.
    """

    def __init__(
        self,
        newest_wins: bool,
        on_change: Callable[[], None] = lambda: None,
        progress: Progress | None = None,
    ) -> None:
        self._newest_wins = newest_wins
        self._on_change = on_change
        self._progress = progress or Progress()
        self._changed = threading.Condition()
        self._item: T | None = None
        self._poked = False
        self._closed = False
        self._stopped = False

    def put(self, item: T) -> bool:
        """Hand an item over; returns whether an earlier one was dropped for it. Raises `Stopped`."""
        with self._progress.waiting(), self._changed:
            while self._item is not None and not self._newest_wins and not self._stopped:
                self._changed.wait(_CHECK_S)
            if self._stopped:
                raise Stopped
            dropped = self._item is not None
            self._item = item
            self._changed.notify_all()
        self._on_change()
        return dropped

    def take(self) -> T:
        """Wait for the next item. Raises `Closed` or `Stopped`."""
        while True:
            item = self.take_or_poke()
            if item is not None:
                return item

    def take_or_poke(self) -> T | None:
        """Wait for the next item, or for a `poke`, which gives None. Raises `Closed` or `Stopped`."""
        with self._progress.waiting(), self._changed:
            while self._item is None and not (self._poked or self._closed or self._stopped):
                self._changed.wait(_CHECK_S)
            self._poked = False
            return self._pop()

    def poll(self) -> T | None:
        """The item if there is one; never waits. Raises `Closed` or `Stopped`."""
        with self._progress.waiting(), self._changed:
            return self._pop()

    def _pop(self) -> T | None:
        if self._stopped:
            raise Stopped
        item, self._item = self._item, None
        if item is not None:
            self._changed.notify_all()
        elif self._closed:
            raise Closed
        return item

    def poke(self) -> None:
        """Wake the taker although there is nothing new."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._on_change()

    def stop(self) -> None:
        """Throw the item away and send both sides home with `Stopped`."""
        with self._changed:
            self._stopped = True
            self._item = None
            self._changed.notify_all()
        self._on_change()


class Stoppable(Protocol):
    """Something whose waits end, in `Stopped` or the like, once it is told to."""

    def stop(self) -> None:
        """End all waits, now and later."""


class Closable(Protocol):
    """Something that can be told that no more will come."""

    def close(self) -> None:
        """Say that no more will come."""


class Pipeline:
    """Stage threads that begin and end together.

    A stage that returns, or leaves with `Closed`, has ended cleanly: the slots it feeds are closed, so that
    what is downstream drains and ends in its turn. Any other exception stops everything, and the first one is
    raised again from `run`.
    """

    def __init__(self) -> None:
        self.progress = Progress()
        self.stopping: threading.Event = StopEvent(self.progress)
        """Set once everything is to end; waits in sources and the like watch it."""
        self._stop_asked = False
        self._deadline_s: float | None = None
        self._stopped_s: float | None = None
        self._error: BaseException | None = None
        self._error_at_end: Exception | None = None
        self._error_lock = threading.Lock()
        self._stoppables: list[Stoppable] = []
        self._threads: list[threading.Thread] = []
        self._may_outlast: set[str] = set()

    def slot(self, newest_wins: bool, on_change: Callable[[], None] = lambda: None) -> Slot[T]:
        """A slot that is stopped with the pipeline."""
        slot: Slot[T] = Slot(newest_wins, on_change, self.progress)
        self._stoppables.append(slot)
        return slot

    def stage(
        self,
        name: str,
        body: Callable[[], None],
        feeds: tuple[Closable, ...],
        may_outlast: bool = False,
        longest_s: float | None = None,
    ) -> None:
        """Add a thread that runs `body` once and then closes what it feeds.

        `may_outlast`: it may be in a call that takes long and cannot be interrupted, such as running a large
        network, and is then left behind without an error; it ends after that call, or with the process.
        `longest_s`: how long it may work on one item before it counts as stuck; `STUCK_S` if None.
        """
        if may_outlast:
            self._may_outlast.add(name)

        def run() -> None:
            try:
                with self.progress.stage(name, STUCK_S if longest_s is None else longest_s):
                    body()
            except Closed:
                pass
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - carried to `run`, which raises it
                self._fail(error)
                return
            for slot in feeds:
                slot.close()

        # Daemons, so that a thread stuck in a driver cannot keep a failed process from ending.
        self._threads.append(threading.Thread(target=run, name=name, daemon=True))

    def fail_at_end(self, error: Exception) -> None:
        """Let `run` raise this error, after a clean end, if nothing else went wrong."""
        self._error_at_end = self._error_at_end or error

    def ask_to_stop(self) -> None:
        """Ask for the end. Takes no lock, so it is safe in a signal handler; `check` acts on it."""
        self._stop_asked = True

    def stop_after(self, seconds: float | None) -> None:
        """Let `check` ask for the end after this time."""
        self._deadline_s = None if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """For the main thread, several times a second. Raises `Stopped` if the end was asked for or came.

        The stages are told at once, so that they end while the main thread finishes its files.
        """
        late = self._deadline_s is not None and time.monotonic() >= self._deadline_s
        if late or self._stop_asked or self.stopping.is_set():
            self._stop()
            raise Stopped

    def run(self, main: Callable[[], None]) -> None:
        """Start the stages, run `main` in this thread, end the stages when it ends, for whatever reason.

        Raises the first error of any stage or of `main`; `StageStuck` if there was none but a thread did not
        end within `JOIN_S`.
        """
        for thread in self._threads:
            thread.start()
        try:
            main()
        except (Closed, Stopped):
            pass
        except BaseException as error:  # noqa: BLE001 - raised again below, unless a stage failed before
            self._fail(error)
        deadline = max(self._stop() + JOIN_S, time.monotonic() + _LAST_JOIN_S)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        stuck = [name for name in alive if name not in self._may_outlast]
        for name in self._may_outlast.intersection(alive):
            _log.warning("%s is busy for longer than %.1f s and was left behind", name, JOIN_S)
        if stuck:
            _log.error("did not stop within %.1f s: %s", JOIN_S, ", ".join(stuck))
        if self._error is not None:
            raise self._error
        if stuck:
            raise StageStuck(f"did not stop in time: {', '.join(stuck)}; please report this with the log")
        if self._error_at_end is not None:
            raise self._error_at_end

    def _fail(self, error: BaseException) -> None:
        with self._error_lock:
            first = self._error is None
            if first:
                self._error = error
        if not first:
            _log.debug("a later error, after the first one", exc_info=error)
        self._stop()

    def _stop(self) -> float:
        """Tell all stages; returns when they were told for the first time, monotonic."""
        if self._stopped_s is None:
            self._stopped_s = time.monotonic()
        self.stopping.set()
        for stoppable in self._stoppables:
            stoppable.stop()
        return self._stopped_s
