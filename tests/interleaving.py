"""Every interleaving of a few processes that use one store: a scheduler of their operations, and a search of its choices."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

Choice = tuple[str, str]

_WRITES = ("_upload", "_write", "rename")
# Random names, and times.
_CHANCE = re.compile(r"[0-9a-f]{32}(?![0-9a-f])|\d{10}\.\d+")


class Killed(BaseException):
    """The process was killed: none of its operations is done any more."""


class _Process:
    """A greenlet that does one operation each time it is chosen; `seen` is all that it has learned from the store."""

    def __init__(self, name: str, body: Callable[[], Any], scheduler: Scheduler) -> None:
        self.name = name
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = self.killed = self.asleep = False
        self.pending = ""
        self.seen: list[Any] = []
        self.operations = 0
        self._scheduler = scheduler
        # The scheduler's own is its parent: where this one ends, that goes on.
        self._greenlet = greenlet(lambda: self._run(body))
        self._greenlet.process = self

    def resume(self) -> None:
        """Let it run up to its next operation."""
        self.asleep = False
        self._greenlet.switch()

    def park(self, pending: str) -> None:
        """Wait to be chosen; raise `Killed` where the process is killed instead."""
        if not self.killed:
            self.pending = pending
            self._greenlet.parent.switch()
        if self.killed:
            raise Killed
        self.operations += 1

    def sleep(self) -> None:
        """Wait until another process has done something."""
        self.asleep = True
        self.park("sleep")

    def learn(self, label: str, result: Any) -> None:
        """Remember a result; an operation that looks anew makes all forgotten but how much was written."""
        if label.startswith(self._scheduler.forget_at) and self.name.startswith("writer"):
            written = sum(count if known == "written" else known.startswith(_WRITES) for known, count in self.seen)
            self.seen = [("written", written)]
        self.seen.append((label, result))

    def _run(self, body: Callable[[], Any]) -> None:
        try:
            self.result = body()
        except BaseException as error:
            self.error = error
        self.finished, self.pending = True, ""


class Scheduler:
    """Choose which process does its next operation. Time passes only while all processes sleep, or one waits for it.

    mortal: the names of processes that may be killed before each of their operations. forget_at: how the operations
    begin with which a writer looks at the store anew.
    """

    def __init__(self, mortal: Iterable[str] = (), forget_at: tuple[str, ...] = ()) -> None:
        self.forget_at = forget_at
        self.waited = 0.0  # seconds
        self._mortal = frozenset(mortal)
        self.processes: dict[str, _Process] = {}

    def start(self, bodies: Mapping[str, Callable[[], Any]]) -> None:
        """Run each process up to its first operation."""
        for name, body in bodies.items():
            self.processes[name] = _Process(name, body, self)
            self.processes[name].resume()

    def operate(self, label: str, do: Callable[[], Any], describe: Callable[[Any], Any] = repr) -> Any:
        """Do an operation when its process is chosen; one of another thread is done at once."""
        process = self.current
        if process is None:
            return do()
        process.park(label)
        try:
            result = do()
        except Exception as error:
            process.learn(label, type(error).__name__)
            raise
        process.learn(label, describe(result))
        return result

    @property
    def current(self) -> _Process | None:
        """The process whose greenlet runs; None for the scheduler's, and for other threads."""
        return getattr(getcurrent(), "process", None)

    def sleep(self, _seconds: float) -> None:
        """Let the process that runs sleep."""
        self.current.sleep()

    def elapse(self, seconds: float) -> None:
        """Let time pass when the process that runs is chosen, whatever the others have done by then."""

        def pass_time() -> None:
            self.waited += seconds

        self.operate("elapse", pass_time)

    def choices(self) -> list[Choice]:
        """Return what can happen next."""
        alive = [process for process in self.processes.values() if not process.finished]
        if alive and all(process.asleep for process in alive):
            self.waited += 1000.0
            for process in alive:
                process.asleep = False
        steps = [("step", process.name) for process in alive if not process.asleep]
        return steps + [
            ("kill", process.name) for process in alive if process.name in self._mortal and process.operations
        ]

    def take(self, choice: Choice) -> None:
        """Let it happen."""
        kind, name = choice
        process = self.processes[name]
        process.killed = kind == "kill"
        process.resume()
        for each in self.processes.values():
            each.asleep = each.asleep and each is process

    def stop(self) -> None:
        """Kill what is left."""
        for process in self.processes.values():
            if not process.finished:
                self.take(("kill", process.name))

    def state(self) -> str:
        """Return all that decides what the processes do next, beside the store, without what differs by chance."""
        found = [
            repr((each.name[:6], each.finished, each.killed, each.asleep, each.pending, each.seen))
            for each in self.processes.values()
        ]
        return _CHANCE.sub("…", repr((self.waited, sorted(found))))


class System(Protocol):
    """Processes on a new store."""

    scheduler: Scheduler
    bodies: Mapping[str, Callable[[], Any]]

    def content(self) -> Any:
        """Return what the store contains, after a check of what must hold at any time."""

    def check(self, path: list[Choice]) -> None:
        """Check what must hold at the end of this path."""


@dataclass
class Search:
    """What was searched: ends of paths that were checked, paths that led to a known state, and states."""

    checked: int = 0
    joined: int = 0
    states: set[Any] = field(default_factory=set)


class _Paths:
    """Beginnings of paths that are still to be taken, those with fewer preemptions first.

    most: how often, in one path, a process may be chosen while the one before could go on; None for any number.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.todo = deque[tuple[int, tuple[Choice, ...]]]([(0, ())])

    def branch(self, path: list[Choice], choices: list[Choice], used: int) -> Choice:
        """Return what to choose next without a preemption, and keep the other choices."""
        going_on = self.last(path, choices)
        first = going_on or choices[0]
        others = [(*path, each) for each in choices if each != first]
        if going_on is None:
            self.todo.extendleft((used, each) for each in others)
        elif self.most is None or used < self.most:
            self.todo.extend((used + 1, each) for each in others)
        return first

    def last(self, path: list[Choice], choices: list[Choice]) -> Choice | None:
        """Return the choice to go on with the last process, where that is counted and it can."""
        return path[-1] if self.most is not None and path and path[-1] in choices else None


def search_all(new_system: Callable[[], System], preemptions: int | None = None) -> Search:
    """Take every path through the choices of a system; a state that was met before is not left a second time.

    preemptions: how often, in one path, a process may be chosen while the one before could go on; None for any number.
    """
    found, paths = Search(), _Paths(preemptions)
    while paths.todo:
        used, prefix = paths.todo.popleft()
        system = new_system()
        system.scheduler.start(system.bodies)
        try:
            _explore(system, list(_follow(system, prefix)), found, paths, used)
        finally:
            system.scheduler.stop()
    return found


def _follow(system: System, prefix: tuple[Choice, ...]) -> Iterable[Choice]:
    for choice in prefix:
        assert choice in system.scheduler.choices(), "the system is not deterministic"
        system.scheduler.take(choice)
        yield choice


def _explore(system: System, path: list[Choice], found: Search, paths: _Paths, used: int) -> None:
    while choices := system.scheduler.choices():
        state = system.scheduler.state(), system.content(), paths.last(path, choices)
        if state in found.states:
            found.joined += 1
            return
        found.states.add(state)
        path.append(paths.branch(path, choices, used))
        system.scheduler.take(path[-1])
    system.content()
    system.check(path)
    found.checked += 1
