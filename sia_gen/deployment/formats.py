"""The formats of exported detectors: how each is written, described and run."""

import logging
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sia_gen.deployment.description import Description
from sia_gen.errors import OutputError, did_you_mean

INPUT, OUTPUTS = "images", ["anomaly_map", "score"]
# The entry of a program of torch.export that has the description.
ENTRY = "description.json"
# Where OpenVINO's own tools look for what a model says of itself.
SECTION = "model_info"

# Maps (B, 1, H, W) and scores (B,), float32.
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


class Example(NamedTuple):
    """Images to trace a network with, and which of their sizes are free, by dimension."""

    images: torch.Tensor
    free: Mapping[int, str]


Write = Callable[[nn.Module, Example, Description, Path], None]
Run = Callable[[Path, torch.Tensor], Outputs]


class Format(NamedTuple):
    """A format: the suffix of its files, the extra and packages it needs, writing and running."""

    suffix: str
    extra: str
    packages: tuple[str, ...]
    write: Write
    run: Run

    def require_packages(self, name: str) -> None:
        """Raises `OutputError` if a package is missing."""
        missing = next((one for one in self.packages if find_spec(one) is None), None)
        if missing is not None:
            raise OutputError(
                problem=f"the format '{name}' needs the package '{missing}'.",
                fix=f"Install it with pip install '.[{self.extra}]' from a clone of sia-gen, or "
                f"give a name that ends with {FORMATS['torch'].suffix}.",
            )


def _traced(module: nn.Module, example: Example) -> Any:
    free = {place: torch.export.Dim(name) for place, name in example.free.items()}
    return torch.export.export(module, (example.images,), dynamic_shapes={INPUT: free})


def _write_program(
    module: nn.Module, example: Example, description: Description, path: Path
) -> None:
    # Torch's own writer aborts the process when a disk is full.
    buffer = BytesIO()
    extra = {ENTRY: description.text()}
    torch.export.save(_traced(module, example), buffer, extra_files=extra)
    path.write_bytes(buffer.getbuffer())


def onnx_program(module: nn.Module, example: Example) -> torch.onnx.ONNXProgram:
    """Converts a network to ONNX."""
    # The exporter logs every step.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            _traced(module, example),
            (example.images,),
            input_names=[INPUT],
            output_names=OUTPUTS,
            # Only for the names of free sizes; which they are is a part of the trace.
            dynamic_shapes={INPUT: dict(example.free)},
            dynamo=True,
            verbose=False,
        )
    # Its type allows None, which it returns only if it saves the file itself.
    return cast(torch.onnx.ONNXProgram, program)


def _write_onnx(module: nn.Module, example: Example, description: Description, path: Path) -> None:
    program = onnx_program(module, example)
    program.model.metadata_props.update(description.metadata())
    program.save(str(path), external_data=False)


def _write_openvino(
    module: nn.Module, example: Example, description: Description, path: Path
) -> None:
    import openvino

    onnx = path.with_suffix(FORMATS["onnx"].suffix)
    _write_onnx(module, example, description, onnx)
    model = openvino.convert_model(onnx)
    onnx.unlink()
    for name, value in description.metadata().items():
        model.set_rt_info(value, [SECTION, name])
    # In half precision the maps would differ.
    openvino.save_model(model, path, compress_to_fp16=False)


def _run_program(path: Path, images: torch.Tensor) -> Outputs:
    with path.open("rb") as file:
        program = torch.export.load(file).module()
    anomaly_map, score = program(images)
    return anomaly_map.numpy(), score.numpy()


def _run_onnx(path: Path, images: torch.Tensor) -> Outputs:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    anomaly_map, score = session.run(OUTPUTS, {INPUT: images.numpy()})
    return anomaly_map, score


def _run_openvino(path: Path, images: torch.Tensor) -> Outputs:
    import openvino

    # Its plugin may choose half precision by itself.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", precision)
    found = compiled({INPUT: images.numpy()})
    anomaly_map, score = (found[name] for name in OUTPUTS)
    return anomaly_map, score


FORMATS = {
    "onnx": Format(
        ".onnx", "export", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _run_onnx
    ),
    "openvino": Format(
        ".xml", "openvino", ("openvino", "onnx", "onnxscript"), _write_openvino, _run_openvino
    ),
    "torch": Format(".pt2", "export", (), _write_program, _run_program),
}


def format_of(path: Path, name: str | None) -> tuple[str, Format]:
    """Returns the format that is named, or that a file's suffix tells, and its name.

    Raises `OutputError` if the suffix is not that of the format, or a package is missing.
    """
    if name is not None and name not in FORMATS:
        raise OutputError(
            problem=f"there is no format '{name}'{did_you_mean(name, FORMATS)}.",
            fix=f"Choose one of {', '.join(FORMATS)}.",
        )
    suffixes = {one: FORMATS[one].suffix for one in ([name] if name is not None else FORMATS)}
    found = next((one for one, suffix in suffixes.items() if suffix == path.suffix), None)
    if found is None:
        names = " or ".join(f"{suffix} ({one})" for one, suffix in suffixes.items())
        raise OutputError(
            problem=f"the suffix of {path} is not that of an exported model.",
            fix=f"Give a name that ends with {names}.",
        )
    FORMATS[found].require_packages(found)
    return found, FORMATS[found]
