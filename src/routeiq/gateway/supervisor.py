"""N workers from one parent: everything is imported and read once, then shared by fork.

The parent owns one listening socket a worker (SO_REUSEPORT, so that the kernel spreads connections evenly)
and keeps it open across a worker's death: connections that wait in its queue are served by the successor.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType

from routeiq.config.loader import load_config
from routeiq.config.model import Config
from routeiq.exceptions import ConfigError, Problem
from routeiq.gateway.reload import keep_fixed
from routeiq.gateway.runtime import check_resolved
from routeiq.gateway.worker import FLUSH_S, WorkerOptions, run_worker

logger = logging.getLogger("routeiq.supervisor")

BACKLOG = 2048
RESTART_MIN_S = 0.1
RESTART_MAX_S = 10.0
PATIENCE_S = 0.5
HEALTHY_S = 30.0
KILL_MARGIN_S = 8.0
"""After a drain: leases, counts and records get a few seconds each to reach a store that hangs."""
POLL_S = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def default_workers() -> int:
    """One per core that this process may use: both lanes are bound by CPU (decision 22)."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, _cgroup_cores() or cores))


def _cgroup_cores(path: str = "/sys/fs/cgroup/cpu.max") -> int | None:
    """The container's CPU quota, rounded down; `None` without one."""
    try:
        with open(path, encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def listener(address: tuple[str, int], *, shared: bool) -> socket.socket:
    """One listening socket; `shared` ones may be many on one address."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)
    sock.listen(BACKLOG)
    sock.set_inheritable(True)
    return sock


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` listening sockets on one address.

    Raises:
        ConfigError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # SO_REUSEPORT alone would let a second gateway join silently: first see that the port is free.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
            if port:
                probe.listen(1)
        sockets = [listener((host, port), shared=count > 1) for _ in range(count)]
    except OSError as error:
        raise ConfigError(
            [
                Problem(
                    key=f"{host}:{port}",
                    message=f"cannot listen there: {error.strerror or error}.",
                    fix="Choose another with --port, or stop what listens on it.",
                )
            ]
        ) from error
    return sockets


class Supervisor:
    """Forks workers, restarts those that die, passes signals on, ends when they have drained."""

    def __init__(
        self,
        config: Config,
        sockets: Sequence[socket.socket],
        options: WorkerOptions,
    ) -> None:
        self._config = config
        self._sockets = list(sockets)
        self._options = options
        self._address = sockets[0].getsockname()[:2] if sockets else ("", 0)
        self._pids: dict[int, int] = {}
        self._born: dict[int, float] = {}
        self._pause: dict[int, float] = {}
        self._due: dict[int, float] = {}
        self._restarts: set[int] = set()
        self._stopping = False
        self._failed = False

    def run(self) -> int:
        """Run until told to stop; the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        gc.collect()
        gc.freeze()  # the collector would touch, and so unshare, every page after the fork
        for index in range(len(self._sockets)):
            self._fork(index)
        deadline: float | None = None
        while self._pids or (self._due and not self._stopping):
            self._reap()
            if self._stopping:
                # Kept open, the queue of a worker that has ended would still collect connections.
                self._close_sockets()
                deadline = deadline or (
                    time.monotonic() + self._config.settings.drain_timeout_seconds + KILL_MARGIN_S
                )
                if time.monotonic() > deadline:
                    self._failed = True
                    self._signal(signal.SIGKILL)
            else:
                self._fork_due()
            time.sleep(POLL_S)
        self._options.output.flush(FLUSH_S)
        return 1 if self._failed else 0

    def _fork(self, index: int) -> None:
        parent = os.getpid()
        self._born[index] = time.monotonic()
        # A signal that comes now waits: in the child our handler would stop its siblings, not itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid:
            self._pids[pid] = index
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if self._stopping:  # told between two forks
                os.kill(pid, signal.SIGTERM)
            return
        code = 1
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            # Until the worker can reload: it reads the configuration below anyway.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for other, sock in enumerate(self._sockets):
                if other != index:
                    sock.close()
            started = self._options.on_started if index == 0 else None
            options = replace(self._options, parent_pid=parent, on_started=started)
            config = self._config if index not in self._restarts else current(self._config)
            run_worker(config, [self._sockets[index]], options)
            code = 0
        except Exception:
            logger.exception("worker failed")
        finally:
            self._options.output.flush(FLUSH_S)
            with contextlib.suppress(OSError):  # closed, or a full disk: there is nobody to tell
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid, index in list(self._pids.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del self._pids[pid]
            code = os.waitstatus_to_exitcode(status)
            if (
                self._stopping
            ):  # one that was still starting has no handler yet: that is a clean end
                self._failed = self._failed or code not in (0, -signal.SIGTERM)
                continue
            self._schedule(index, code)

    def _schedule(self, index: int, code: int) -> None:
        """Restart a dead worker; quick deaths in a row wait longer and longer."""
        now = time.monotonic()
        quick = now - self._born[index] < HEALTHY_S
        pause = self._pause.get(index, RESTART_MIN_S) if quick else RESTART_MIN_S
        self._pause[index] = min(pause * 2, RESTART_MAX_S)
        self._due[index] = now + pause
        self._restarts.add(index)
        if pause > PATIENCE_S:  # it will not be back soon: its queue's clients must not wait for it
            self._sockets[index].close()
        logger.error(
            "worker died; restarting", extra={"index": index, "exit_code": code, "pause_s": pause}
        )

    def _fork_due(self) -> None:
        now = time.monotonic()
        for index in [one for one, due in self._due.items() if due <= now]:
            del self._due[index]
            try:
                if self._sockets[index].fileno() < 0:
                    self._sockets[index] = listener(self._address, shared=True)
                self._fork(index)
            except OSError:  # no address, no process: the machine may recover
                logger.exception("worker cannot be started")
                self._schedule(index, 1)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._signal(signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """SIGHUP: every worker reloads."""
        self._signal(number)

    def _signal(self, number: int) -> None:
        for pid in self._pids:
            os.kill(pid, number)


def current(config: Config) -> Config:
    """The configuration as it stands now, for a worker that takes a dead one's place: it may have been reloaded.

    One that cannot be used any more is not taken: what the dead worker was started with worked.
    """
    path = None if config.source == "environment" else config.source
    try:
        fresh = keep_fixed(load_config(path, os.environ), config)
        check_resolved(fresh)
    except ConfigError as error:
        logger.error(
            "the configuration cannot be read again", extra={"problems": str(error)[:1000]}
        )
        return config
    return fresh
