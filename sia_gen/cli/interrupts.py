"""Ctrl-C ends a command within two seconds, with a line that says how to continue.

The first Ctrl-C interrupts the command, so that it can clean up. If that takes too long, a thread
ends the process: libraries may be waiting in C++ for other processes, or may swallow the
interrupt. Files are whole or absent even then.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

STOPPED = b"error: interrupted. Run the same command again to continue.\n"
EXIT_STOPPED = 1
SECONDS_TO_CLEAN_UP = 1.0
INTERRUPTED = threading.Event()
# Set if the command has caught the interrupt, and goes on.
GOES_ON = threading.Event()
# Held by the thread that ends the process, so that no other one does too.
ENDING = threading.Lock()


def watch_for_interrupts() -> None:
    """Makes the first Ctrl-C end this process, and ignores later ones.

    Where Ctrl-C is ignored already, as in background jobs of a script, nothing changes.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    watched = os.getpid()

    def interrupt(_: int, frame: FrameType | None) -> NoReturn:
        ignore_interrupts()
        # In a process that was forked to load images; its parent prints the line.
        if os.getpid() != watched:
            os._exit(EXIT_STOPPED)
        INTERRUPTED.set()
        if _is_importing(frame):
            end()
        # Libraries that clean up may complain about processes that have ended already.
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt

    # A socket rather than a pipe, for Windows.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=_end_in_time, args=(reader, writer), daemon=True).start()
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, interrupt)


@contextmanager
def interrupt_is_the_end() -> Iterator[None]:
    """Lets a command that catches Ctrl-C, its usual end, come to it or to an error of its own."""
    try:
        yield
    finally:
        if not isinstance(sys.exception(), KeyboardInterrupt):
            GOES_ON.set()
            INTERRUPTED.clear()


def ignore_interrupts() -> None:
    """Ignores Ctrl-C from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def leave_interrupts() -> None:
    """Leaves Ctrl-C to a command that ends in its own time from now on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end() -> NoReturn:
    """Prints how to continue, and ends the process without waiting for threads or libraries."""
    ENDING.acquire()
    if os.environ.get("RANK", "0") == "0":
        # Not through `sys.stderr`, which the main thread may be writing to.
        with suppress(OSError):
            os.write(2, STOPPED)
    os._exit(EXIT_STOPPED)


def _is_importing(frame: FrameType | None) -> bool:
    """Tells whether a frame belongs to an import.

    C++ libraries that call Python while being imported treat an exception as a fatal error.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _end_in_time(signals: socket.socket, _: socket.socket) -> None:
    """Waits for Ctrl-C, whatever the main thread is doing, then ends the process after a while.

    Both ends of the socket are arguments, so that neither is closed.
    """
    while signal.SIGINT not in signals.recv(1):
        pass
    if not GOES_ON.wait(SECONDS_TO_CLEAN_UP):
        end()
