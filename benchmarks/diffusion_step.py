"""A training step of the diffusion model: time against float32, memory, and the largest batch.

    python benchmarks/diffusion_step.py --preset small --image-size 128 --batch-size 8
    python benchmarks/diffusion_step.py --preset adm-256 --image-size 256 --batch-size 4

Two steps of the same network in turns: float32 and eager, as the paper's code trains, and what
`train-diffusion` does; with --apart one after the other, each in a process of its own, for networks
of which two do not fit into memory. Then the peak memory of each way to save some, in processes of
their own, beside the estimate that `train-diffusion` prints; and how large a batch cards of 24, 48
and 80 GB take (the authors' code: 1, 5 and 10): by the estimate, and on a GPU by trying, in as much
of its memory.
"""

from __future__ import annotations

import argparse
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import release_memory
from diffusers.training_utils import EMAModel
from measuring import alone, in_turns, median, peak_resident, ratio, save, show, show_profile

from sia_gen.config.settings import Diffusion
from sia_gen.diffusion.dataset import NoiseBatch
from sia_gen.diffusion.loss import DiffusionSchedule, denoising_loss
from sia_gen.diffusion.memory import GIB, MemoryEstimate, estimate_memory, prepare_norms
from sia_gen.diffusion.state import make_optimizer, scheduler_for
from sia_gen.networks.unet import build_unet
from sia_gen.runtime.device import Runtime

CARDS = (24, 48, 80)
# Of a card of N GB the system and the driver leave about this share.
USABLE = 0.93
WAYS: dict[str, dict[str, Any]] = {
    "Adam": {},
    "+ gradient checkpointing": {"gradient_checkpointing": True},
    "+ Adafactor": {"gradient_checkpointing": True, "optimizer": "adafactor"},
}
EAGER, OURS = "float32, eager", "ours"
NOT_MEASURED = "not measured"
LIMIT = "the same step in float32, eager"


def make_step(
    settings: Diffusion, accelerator: Accelerator | None, device: torch.device
) -> Callable[[], None]:
    """A step of training on noise: as `train-diffusion` takes it, or in float32 without one."""
    unet = build_unet(settings, channels=3).to(device)
    scheduler = scheduler_for(unet)
    if accelerator is not None:
        prepare_norms(unet, device.type, accelerator.mixed_precision)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    optimizer = make_optimizer(unet, settings)
    if accelerator is not None:
        unet, optimizer = accelerator.prepare(unet, optimizer)
    decay = settings.ema_decay
    average = EMAModel(unet.parameters(), decay=decay, min_decay=decay)
    schedule = DiffusionSchedule(scheduler.betas, device)
    shape = (settings.batch_size, 3, settings.image_size, settings.image_size)
    images, noise = torch.randn(2, *shape, device=device)
    timesteps = torch.arange(settings.batch_size, device=device) * 37 % 1000
    batch = NoiseBatch(images, noise, timesteps, labels=timesteps)

    def step() -> None:
        noisy = scheduler.add_noise(images, noise, timesteps)
        output = unet(noisy, timesteps).sample.float()
        denoising_loss(output, noisy, batch, schedule).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        average.step(unet.parameters())

    return step


def time_steps(
    settings: Diffusion, ways: Sequence[str], rounds: int, profiled: bool
) -> tuple[list[dict[str, float]], list[Any]]:
    """Seconds of a step, round by round, in float32 and as ours.

    Returns:
        The rounds, and what takes the time of ours, if it is asked for.
    """
    accelerator = Runtime().accelerator()
    given = {EAGER: None, OURS: accelerator}
    runs = {way: make_step(settings, given[way], accelerator.device) for way in ways}
    measured = in_turns(runs, rounds)
    shown = profiled and OURS in runs
    return measured, show_profile(OURS, runs[OURS], accelerator.device) if shown else []


def compare(settings: Diffusion, options: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """How long a step takes in float32, and how many times faster ours is.

    Returns:
        The rows, and what takes the time of ours, if it is asked for.
    """
    groups = [[EAGER], [OURS]] if options.apart else [[EAGER, OURS]]
    # In processes of their own, which leave nothing on the GPU.
    found = [alone(time_steps, settings, ways, options.rounds, options.profile) for ways in groups]
    measured = [
        dict(ChainMap(*together)) for together in zip(*(rounds for rounds, _ in found), strict=True)
    ]
    rows = [
        [way, taken, settings.batch_size / taken, ratio(measured, EAGER, way)]
        for way in (EAGER, OURS)
        for taken in [median(measured, way)]
    ]
    return rows, found[-1][1]


def peak(settings: Diffusion) -> float:
    """The most memory in GiB that two steps of training add to a process, which did nothing yet."""
    accelerator = Runtime().accelerator()
    before = peak_resident()
    step = make_step(settings, accelerator, accelerator.device)
    for _ in range(2):
        step()
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return (peak_resident() - before) / GIB


def fits(settings: Diffusion, gigabytes: int) -> bool:
    """Whether two steps of training fit into so much of a GPU's memory."""
    accelerator = Runtime().accelerator()
    # What an earlier try left: a network refers to itself.
    release_memory()
    share = usable(gigabytes) / torch.cuda.get_device_properties(accelerator.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), accelerator.device)
    try:
        step = make_step(settings, accelerator, accelerator.device)
        for _ in range(2):
            step()
    except torch.OutOfMemoryError:
        return False
    return True


def usable(gigabytes: int) -> float:
    """Bytes of a card that a process may use."""
    return gigabytes * 1e9 * USABLE


def estimated_batch(estimate: MemoryEstimate, gigabytes: int) -> int:
    """How many images at once should fit into a card."""
    fixed = estimate.total - estimate.batch_size * estimate.per_image
    return max(0, int((usable(gigabytes) - fixed) / estimate.per_image))


def tried_batches(settings: Diffusion, estimates: list[int]) -> list[int]:
    """The largest batch that fits into each card, found between none and twice the estimate."""
    found = []
    for card, estimate in zip(CARDS, estimates, strict=True):
        fitting, too_large = 0, 2 * max(estimate, 1)
        # As near as a twentieth: each try builds the network anew.
        while too_large - fitting > max(1, fitting // 20):
            middle = (fitting + too_large) // 2
            if fits(settings.model_copy(update={"batch_size": middle}), card):
                fitting = middle
            else:
                too_large = middle
        found.append(fitting)
    return found


def memory_rows(settings: Diffusion, device: torch.device, *, train: bool) -> list[list[Any]]:
    """What each way of training takes, and the batches that fit into cards."""
    rows = []
    for way, changes in WAYS.items():
        changed = settings.model_copy(update=changes)
        with torch.device("meta"):
            unet = build_unet(changed, channels=3)
        estimate = estimate_memory(unet, changed, "bf16")
        batches = [estimated_batch(estimate, card) for card in CARDS]
        tried: list[int | str] = [NOT_MEASURED] * len(CARDS)
        if train and device.type == "cuda":
            tried = alone(tried_batches, changed, batches)
        measured = alone(peak, changed) if train else NOT_MEASURED
        rows.append([way, estimate.total / GIB, measured, *batches, *tried])
    return rows


def main() -> None:
    """Prints two tables, and writes `diffusion_step-PRESET-SIZE.json` into the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="the two one after the other")
    parser.add_argument("--profile", action="store_true", help="show what bounds our step")
    parser.add_argument("--estimate", action="store_true", help="the memory; nothing is trained")
    options = parser.parse_args()
    settings = Diffusion(
        preset=options.preset,
        image_size=options.image_size,
        batch_size=options.batch_size,
        variance="learned_range" if options.preset == "adm-256" else "fixed",
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    title = f"{options.preset}, {options.image_size} pixels, batch {options.batch_size}"
    times: list[Any] = []
    shares: list[Any] = []
    if not options.estimate:
        times, shares = compare(settings, options)
        show(title, ["", "seconds per step", "images/s", "times eager"], times)
    memory = memory_rows(settings, device, train=not options.estimate)
    cards = [f"{card} GB{kind}" for kind in ("", ", tried") for card in CARDS]
    columns = ["bfloat16", "estimate, GiB", "peak, GiB", *cards]
    show(f"{title}, memory, and the largest batch on a card", columns, memory)
    found = {"times": times, "memory": memory, "shares": shares}
    name = f"diffusion_step-{options.preset}-{options.image_size}"
    save(name, device, LIMIT, vars(options) | found)


if __name__ == "__main__":
    main()
