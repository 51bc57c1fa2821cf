"""The command line: each command reads its options and makes one call into a room."""

from sia_gen.cli.interrupts import INTERRUPTED, end, ignore_interrupts, watch_for_interrupts

__all__ = ["main"]


def main() -> None:
    """Runs a command as a process, and exits with its code."""
    try:
        watch_for_interrupts()
        # Imported here, because an interrupt may arrive during the import.
        from sia_gen.cli import app

        app.main()
    except BaseException:
        # Libraries may have turned the interrupt into another error.
        if INTERRUPTED.is_set():
            end()
        raise
    finally:
        ignore_interrupts()
