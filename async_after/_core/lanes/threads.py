"""The runner's own worker threads.

Promise 9, bounded: at most ``max_threads`` of them, and never asyncio's
default executor, so that callbacks cannot starve views or name resolution.
Promise 11, no_leaks: a worker closes its database connections when it ends.

They are daemon threads: the interpreter joins the workers of a
``ThreadPoolExecutor`` at exit without a deadline.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context

from ..runtime import Gate, Pace, SwitchInterval, change, gevent, log
from . import cleanup
from .worker import Job, Work, Worker


class WorkerPool:
    """At most ``size()`` workers, made when there is work and none is idle.

    A worker that is overdue does not count, while fewer than ``size()`` are:
    a thread cannot be killed, only replaced.
    """

    def __init__(self, size: Callable[[], int], switching: SwitchInterval) -> None:
        self._size = size
        self._switching = switching
        self._busy = 0
        """Workers that have work."""
        self.gate: Gate = Gate()
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._backlog: deque[Job] = deque()
        self._overdue = 0
        self._is_closing = False
        self._made = 0
        self._full_pace = Pace(1, 60.0)
        self._here = threading.local()

    @property
    def count(self) -> int:
        """Threads that there are."""
        return len(self._workers)

    @property
    def size(self) -> int:
        """... and how many there may be, besides those that are overdue."""
        return self._size()

    @property
    def overdue_count(self) -> int:
        """Workers that are held by functions which have timed out."""
        return self._overdue

    def submit(
        self,
        work: Work,
        again: Work | None = None,
        waiting: Job | None = None,
        *,
        first: bool = False,
    ) -> bool:
        """Run ``work`` in an idle worker or a new one. ``False`` if there is none: then the first
        that is free runs it, or what is to be run instead of it when it had to wait. ``first``:
        it has waited once, and those that wait now come behind it. ``again`` asks for the same:
        behind the change that is under way here, or if this raises."""
        if gevent.go_home(functools.partial(self.submit, work)):
            return True
        job = work, again
        hand_out = functools.partial(self._hand_out, job, waiting or job, first)
        has_worker = self.gate.make(hand_out, True, again or functools.partial(self.submit, work))
        try:
            if not has_worker:
                self._say_if_full()
        except Exception:  # it is handed out all the same
            self.gate.hurry()
        return has_worker

    def _hand_out(self, work: Job, waiting: Job, first: bool) -> bool:
        worker = self._idle[-1] if self._idle else None
        if worker is None or worker.sessions:
            # One that is reserved is better left to its own callback.
            unused = [worker for worker in self._idle if not worker.sessions]
            worker = unused[-1] if unused else self._grow() or worker
        if worker is None and (first or not self._backlog):
            # Who has the slot that this thread gives back would find no thread otherwise.
            here = getattr(self._here, "worker", None)
            worker = here if here and here.is_about_to_be_free else None
        if worker is None:
            (self._backlog.appendleft if first else self._backlog.append)(waiting)
            return False
        self._give(worker, work)
        return True

    def _say_if_full(self) -> None:
        """Once a minute, while functions that have timed out hold every thread."""
        size, count = self._size(), len(self._backlog)
        if not count or self._overdue < size or not self._full_pace.is_due():
            return
        workers: list[Worker] = self.gate.look(functools.partial(list, self._workers))
        names = [worker.overdue_with for worker in workers if worker.overdue_with]
        log(
            "error",
            "threads_full",
            "the worker threads are full: %s callback(s) have not returned long after their"
            " timeout, and a thread cannot be stopped. %s wait for a thread (max_threads=%s) until"
            " one returns. Held by: %s",
            len(names),
            count,
            size,
            ", ".join(names),
            callbacks=names,
            waiting=count,
            max_threads=size,
        )

    @change
    def give(self, worker: Worker, work: Work) -> None:
        """Run ``work`` in this very worker, which is reserved."""
        self._give(worker, (work, None))

    def reserve(self) -> Worker:
        """The worker for one async callback's thread-sensitive calls, until
        ``release``: one that nobody needs, a new one, or the least used."""
        return self.gate.look(self._reserve)

    def _reserve(self) -> Worker:
        unused = [worker for worker in self._idle if not worker.sessions]
        worker = unused[-1] if unused else self._grow()
        if worker is None:
            usable = [worker for worker in self._workers if worker.overdue_with is None]
            # A busy one may be so for long.
            worker = min(usable or self._workers, key=lambda w: (w.is_busy, w.sessions))
        worker.sessions += 1
        return worker

    @change
    def release(self, worker: Worker) -> None:
        worker.sessions -= 1
        if self._is_closing and not worker.load and not worker.sessions:
            self._dismiss(worker)

    def current_turn(self) -> tuple[Worker, int]:
        """This thread's worker and what it is at; for ``overdue``."""
        worker: Worker = self._here.worker
        return worker, worker.turn

    def announce_end(self) -> None:
        """What this thread's worker does is as good as done: it can take something else."""
        if (worker := getattr(self._here, "worker", None)) is not None:
            worker.is_at_end = True

    def overdue(self, worker: Worker, turn: int, name: str) -> None:
        """Its work, callback ``name``, has not ended in time: let another
        worker take its place."""
        self._replace(worker, turn, name)
        self._say_if_full()

    @change
    def _replace(self, worker: Worker, turn: int, name: str) -> None:
        if worker.turn != turn or worker.overdue_with is not None:
            return
        worker.overdue_with = name
        self._overdue += 1
        if self._backlog and (substitute := self._grow()) is not None:
            self._give(substitute, self._backlog[0])
            self._backlog.popleft()

    @change
    def mend(self) -> None:
        """Threads that have died, for want of memory say: others do their work."""
        for worker in [*self._workers]:
            if worker.thread is not None and not worker.thread.is_alive():
                self._workers.discard(worker)
                if not worker.load:
                    self._idle.remove(worker)
                else:
                    self._busy -= 1
                    self._overdue -= worker.overdue_with is not None
                while not worker.inbox.empty():
                    if (job := worker.inbox.get_nowait()) is not None:
                        self._backlog.append(job)
        while self._backlog:
            substitute = self._idle[-1] if self._idle else self._grow()
            if substitute is None:
                return
            self._give(substitute, self._backlog[0])
            self._backlog.popleft()

    @change
    def close(self) -> None:
        """Let each worker end when it has nothing left to do, until ``open``."""
        self._is_closing = True
        for worker in [*self._idle]:
            if not worker.sessions:
                self._dismiss(worker)

    def open(self) -> None:
        """Workers stay again when they have nothing to do."""
        self._is_closing = False

    # In a change.

    def _grow(self) -> Worker | None:
        size = self._size()
        if len(self._workers) - min(self._overdue, size) >= size:
            return None
        worker = Worker()
        name = f"async_after worker {self._made + 1}"
        thread = threading.Thread(target=self._serve, args=(worker,), name=name, daemon=True)
        worker.thread = thread
        try:
            # In an empty context: some libraries let a thread inherit what is current.
            Context().run(thread.start)
        except RuntimeError:  # the system has no more
            if not self._workers:
                raise
            return None
        self._made += 1
        self._workers.add(worker)
        self._idle.append(worker)
        return worker

    def _give(self, worker: Worker, job: Job) -> None:
        if not worker.load:
            if not self._busy:
                self._switching.lower()
            self._idle.remove(worker)
            self._busy += 1
        worker.load += 1
        worker.inbox.put(job)

    def _dismiss(self, worker: Worker) -> None:
        self._idle.remove(worker)
        self._workers.discard(worker)
        worker.inbox.put(None)

    # In the worker's thread.

    def _serve(self, worker: Worker) -> None:
        self._here.worker = worker
        while (job := worker.inbox.get()) is not None:
            work, again = job
            del job
            try:
                work()
            except BaseException:  # a defect of ours, and no reason to lose the thread
                if again is not None:
                    self.gate.asked.append(again)
                log("exception", "internal_error", "work in a worker thread failed")
            del work, again
            turn = worker.turn
            try:
                self._done(worker)
            except Exception:  # no stack, no memory: once more, if it is not done
                if worker.turn == turn:
                    self._done(worker)
        cleanup.close_connections()

    @change
    def _done(self, worker: Worker) -> None:
        size = self._size()
        if self._busy == 1 and not self._backlog and worker.load == 1:
            self._switching.restore()
        # Behind all calls, any of which may raise.
        worker.load -= 1
        worker.is_at_end = False
        worker.turn += 1
        if worker.overdue_with is not None:
            worker.overdue_with = None
            self._overdue -= 1
        if worker.load:
            return
        is_surplus = len(self._workers) - self._overdue > size
        if self._backlog and not is_surplus:
            worker.load = 1
            worker.inbox.put(self._backlog.popleft())
            return
        self._busy -= 1
        if (is_surplus or self._is_closing) and not worker.sessions:
            self._workers.discard(worker)
            worker.inbox.put(None)
        else:
            self._idle.append(worker)
