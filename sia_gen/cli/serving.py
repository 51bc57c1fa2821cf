"""The command that serves a detector over HTTP."""

from typing import Annotated

from typer import Option

from sia_gen.cli import options
from sia_gen.cli.common import say
from sia_gen.cli.interrupts import leave_interrupts


def serve(
    model: options.Detector,
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    batch_size: Annotated[int, Option(min=1, help="Most photographs to score at a time.")] = 8,
    queue: Annotated[
        int, Option(min=1, help="Most photographs that wait; further ones are told to come later.")
    ] = 32,
    max_megabytes: Annotated[float, Option(min=0.001, help="Largest file.")] = 20.0,
    max_megapixels: Annotated[float, Option(min=0.001, help="Largest photograph.")] = 40.0,
    precision: options.Precision = None,
    device: options.Device = "auto",
    channels_last: options.ChannelsLast = None,
) -> None:
    """Serve a detector: POST a photograph to /predict, or drop it on the page.

    Example: sia-gen serve runs/elpv/realnet/mono
    """
    from sia_gen.runtime.device import Runtime
    from sia_gen.serving.run import Settings
    from sia_gen.serving.run import serve as run

    settings = Settings(host, port, batch_size, queue, max_megabytes, max_megapixels)
    runtime = Runtime(precision, device, channels_last=channels_last)
    leave_interrupts()
    answered = run(
        model, settings, runtime, lambda at: say(f"Serving {model} at {at}; Ctrl-C ends it.")
    )
    say(f"Stopped; {answered} photographs were judged.")
