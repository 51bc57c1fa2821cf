"""A training step of the diffusion model: time against float32, memory, and the largest batch.

    python benchmarks/diffusion_step.py --preset small --image-size 128 --batch-size 8
    python benchmarks/diffusion_step.py --preset adm-256 --image-size 256 --batch-size 4

Two steps of the same network in turns: float32 and eager, as the paper's code trains, and what
`train-diffusion` does. Then the peak memory of each way to save some, beside the estimate that
`train-diffusion` prints, which also says how large a batch cards of 24, 48 and 80 GB take (the
authors' code: 1, 5 and 10).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from measuring import in_turns, median, ratio, save, show

from sia_gen.diffusion.loss import DiffusionSchedule, denoising_loss
from sia_gen.diffusion.memory import GIB, MemoryEstimate, estimate_memory
from sia_gen.diffusion.setup import make_optimizer, scheduler_for
from sia_gen.diffusion.unet import build_unet
from sia_gen.runtime import make_accelerator
from sia_gen.settings import Diffusion

CARDS = (24, 48, 80)
# Of a card of N GB the system and the driver leave about this share.
USABLE = 0.93
WAYS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "+ gradient checkpointing": {"gradient_checkpointing": True},
    "+ Adafactor": {"gradient_checkpointing": True, "optimizer": "adafactor"},
}
LIMIT = "the same step in float32, eager"


def make_step(
    unet: UNet2DModel, settings: Diffusion, accelerator: Accelerator | None
) -> Callable[[], None]:
    """A step of training on noise: as `train-diffusion` takes it, or in float32 without one."""
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    scheduler, schedule = scheduler_for(unet), DiffusionSchedule(scheduler_for(unet).betas)
    optimizer = make_optimizer(unet, settings)
    device, shape = unet.device, (3, settings.image_size, settings.image_size)
    if accelerator is not None:
        unet, optimizer = accelerator.prepare(unet, optimizer)
    images, noise = torch.randn(2, settings.batch_size, *shape, device=device)
    timesteps = torch.arange(settings.batch_size, device=device) * 37 % 1000

    def step() -> None:
        noisy = scheduler.add_noise(images, noise, timesteps)
        output = unet(noisy, timesteps).sample.float()
        denoising_loss(output, images, noisy, noise, timesteps, schedule).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()

    return step


def compare(settings: Diffusion, rounds: int) -> dict[str, float]:
    """Seconds of a step in float32 and in what the device computes best, and their ratio."""
    accelerator = make_accelerator(None, "auto")
    plain, ours = (build_unet(settings, channels=3).to(accelerator.device) for _ in range(2))
    runs = {
        "float32": make_step(plain, settings, None),
        "ours": make_step(ours, settings, accelerator),
    }
    measured = in_turns(runs, rounds)
    times = {name: median(measured, name) for name in runs}
    return times | {"ratio": ratio(measured, "float32", "ours")}


def peak(settings: Diffusion) -> float:
    """The most memory in GiB that two steps of training add to a process of their own."""
    with get_context("spawn").Pool(1) as process:
        return process.apply(peak_here, (settings,))


def peak_here(settings: Diffusion) -> float:
    """The same of this process, which has done nothing yet."""
    accelerator = make_accelerator(None, "auto")
    before = resident()
    unet = build_unet(settings, channels=3).to(accelerator.device)
    step = make_step(unet, settings, accelerator)
    for _ in range(2):
        step()
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return (resident() - before) / GIB


def resident() -> int:
    """The most bytes that this process has ever held, as Linux tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def largest_batch(estimate: MemoryEstimate, gigabytes: int) -> int:
    """How many images at once fit into a card."""
    left = gigabytes * 1e9 * USABLE - (estimate.total - estimate.batch_size * estimate.per_image)
    return max(0, int(left / estimate.per_image))


def memory_rows(settings: Diffusion, *, measure_peak: bool) -> list[list[Any]]:
    """What each way of training takes, and the batches that fit into cards."""
    rows = []
    for way, changes in WAYS.items():
        changed = settings.model_copy(update=changes)
        with torch.device("meta"):
            unet = build_unet(changed, channels=3)
        estimate = estimate_memory(unet, changed, "bf16")
        measured = peak(changed) if measure_peak else "not measured"
        batches = [largest_batch(estimate, card) for card in CARDS]
        rows.append([way, estimate.total / GIB, measured, *batches])
    return rows


def main() -> None:
    """Prints two tables, and writes `diffusion_step.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--estimate-only", action="store_true", help="of the memory; nothing is trained"
    )
    options = parser.parse_args()
    settings = Diffusion(
        preset=options.preset,
        image_size=options.image_size,
        batch_size=options.batch_size,
        variance="learned_range" if options.preset == "adm-256" else "fixed",
    )
    device = make_accelerator(None, "auto").device
    title = f"{options.preset}, {options.image_size} pixels, batch {options.batch_size}"
    times = {} if options.estimate_only else compare(settings, options.rounds)
    if times:
        show(f"{title}, seconds per step", list(times), [list(times.values())])
    memory = memory_rows(settings, measure_peak=not options.estimate_only)
    columns = ["bfloat16", "estimate, GiB", "peak, GiB", *(f"batch in {card} GB" for card in CARDS)]
    show(f"{title}, memory", columns, memory)
    save("diffusion_step", device, LIMIT, vars(options) | {"times": times, "memory": memory})


if __name__ == "__main__":
    main()
