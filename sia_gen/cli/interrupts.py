"""Ctrl-C ends a command within two seconds, wherever it strikes, with a line on how to go on.

The command is interrupted first, so that it can tidy up. What that does not end in time is ended
all the same: libraries wait in C++ for other processes, or catch what is not theirs to catch. A
file is whole or absent even then.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

STOPPED = b"error: stopped. Run the same command again to go on.\n"
EXIT_STOPPED = 1
SECONDS_TO_TIDY_UP = 1.0
INTERRUPTED = threading.Event()
# Taken by the thread that ends the process; another that wants to waits for the end.
ENDING = threading.Lock()


def watch_for_interrupts() -> None:
    """From now on the first Ctrl-C ends this process, and the next ones change nothing.

    Where Ctrl-C is ignored, as it is in the background of a script, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    watched = os.getpid()

    def interrupt(_: int, frame: FrameType | None) -> NoReturn:
        ignore_interrupts()
        # In a process that was forked to load images; the one it works for tells of the end.
        if os.getpid() != watched:
            os._exit(EXIT_STOPPED)
        INTERRUPTED.set()
        if importing(frame):
            end()
        # Where libraries tidy up, they may miss the processes that have ended already.
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt

    # Windows takes no pipe for it.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    threading.Thread(target=end_in_time, args=(reader, writer), daemon=True).start()
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, interrupt)


def importing(frame: FrameType | None) -> bool:
    """Whether a frame is at work on an import.

    Libraries in C++ that call Python while they are imported take an exception for their own end.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def ignore_interrupts() -> None:
    """From now on Ctrl-C changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_in_time(signals: socket.socket, _: socket.socket) -> None:
    """Waits for Ctrl-C, whatever the main thread is doing, and ends the process a while later.

    It keeps both ends open.
    """
    while signal.SIGINT not in signals.recv(1):
        pass
    time.sleep(SECONDS_TO_TIDY_UP)
    end()


def end() -> NoReturn:
    """Tells how to go on, and ends the process without waiting for threads and libraries."""
    ENDING.acquire()
    if os.environ.get("RANK", "0") == "0":
        # Not by `sys.stderr`: the main thread may be in the middle of it.
        with suppress(OSError):
            os.write(2, STOPPED)
    os._exit(EXIT_STOPPED)
