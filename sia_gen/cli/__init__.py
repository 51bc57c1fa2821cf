"""The command line: options in, one call into a room, nothing else."""

from sia_gen.cli.interrupts import INTERRUPTED, end, ignore_interrupts, watch_for_interrupts

__all__ = ["main"]


def main() -> None:
    """Runs a command as a process of its own; its exit code is that of the process."""
    watch_for_interrupts()
    try:
        # Only now: importing takes a while, in which there may be an interrupt.
        from sia_gen.cli import app

        app.main()
    except BaseException:
        # Whatever an interrupt became on its way here.
        if INTERRUPTED.is_set():
            end()
        raise
    finally:
        # All is said; from here on there is but the end of the interpreter to interrupt.
        ignore_interrupts()
