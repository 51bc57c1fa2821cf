"""Exports a fitted RealNet for other runtimes, and checks that they give the same maps."""

import logging
import warnings
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sia_gen.errors import ModelError, OutputError
from sia_gen.io.files import atomic_path, prepare_output
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import load_realnet, require_numbers
from sia_gen.realnet.model import RealNet

# Largest difference between the maps of the two runtimes, which are probabilities.
TOLERANCE = 1e-4
ONNX, PROGRAM = ".onnx", ".pt2"


class Plain(nn.Module):
    """A RealNet whose output is plain tensors."""

    def __init__(self, model: RealNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns anomaly maps (B, 1, H, W) and scores (B,) of images (B, C, H, W) in [0, 1]."""
        output = self.model(images)
        return output.anomaly_map, output.score


def export_realnet(folder: Path, out: Path, channels: int) -> float:
    """Writes a model to one file that takes 1 to 63 images of 1 or 3 channels at a time.

    The file is ONNX if its name ends with `.onnx`, a program of `torch.export` if with `.pt2`.
    Returns the largest difference between a map of the exported model and of the original.
    """
    if out.suffix not in (ONNX, PROGRAM):
        raise OutputError(
            problem=f"the suffix of {out} is not that of an exported model.",
            fix=f"Give a name that ends with {ONNX}, or with {PROGRAM} for torch.export.",
        )
    onnx = out.suffix == ONNX
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if onnx and missing:
        raise OutputError(
            problem=f"ONNX needs the package '{missing[0]}'.",
            fix="Install it with pip install '.[export]' from a clone of sia-gen, or give a name "
            f"that ends with {PROGRAM}.",
        )
    model = load_realnet(folder, channels_last=False).model
    plain = Plain(model).eval()
    size = model.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, channels, size, size, generator=generator)
    with torch.no_grad():
        require_numbers(plain(images)[1].numpy())
    prepare_output(out.parent)
    with working_on(out.parent, out.name), atomic_path(out) as temporary, torch.no_grad():
        write, run = (write_onnx, run_onnx) if onnx else (write_program, run_program)
        write(plain, images, temporary)
        difference = max(
            float(np.abs(run(temporary, some) - plain(some)[0].numpy()).max())
            for some in (images, images[:1])
        )
        if not difference <= TOLERANCE:
            raise ModelError(
                problem=f"the exported model of {folder} differs by {difference:.1e} in its maps.",
                fix=f"Give a name that ends with {PROGRAM if onnx else ONNX}.",
            )
    return difference


def _traced(plain: Plain, images: torch.Tensor) -> Any:
    # Upsampling in diffusers takes another branch for 64 images and more.
    batch = torch.export.Dim("batch", max=63)
    return torch.export.export(plain, (images,), dynamic_shapes={"images": {0: batch}})


def write_program(plain: Plain, images: torch.Tensor, path: Path) -> None:
    """Writes a program of torch.export."""
    # Torch's own writer aborts the process when a disk is full.
    buffer = BytesIO()
    torch.export.save(_traced(plain, images), buffer)
    path.write_bytes(buffer.getbuffer())


def write_onnx(plain: Plain, images: torch.Tensor, path: Path) -> None:
    """Writes ONNX, weights included."""
    # The exporter logs every step.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            _traced(plain, images),
            (images,),
            input_names=["images"],
            output_names=["anomaly_map", "score"],
            dynamo=True,
            verbose=False,
        )
        # Its type allows None, which it returns only if it saves the file itself.
        cast(torch.onnx.ONNXProgram, program).save(str(path), external_data=False)


def run_onnx(path: Path, images: torch.Tensor) -> NDArray[np.float32]:
    """Returns the maps of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    maps: NDArray[np.float32] = session.run(["anomaly_map"], {"images": images.numpy()})[0]
    return maps


def run_program(path: Path, images: torch.Tensor) -> NDArray[np.float32]:
    """Returns the maps of a program of torch.export."""
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    maps: NDArray[np.float32] = program(images)[0].numpy()
    return maps
