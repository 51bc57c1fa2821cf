"""What `predict` writes about a photograph, all at the photograph's own size.

| `--save` | file | content |
|---|---|---|
| heatmaps | heatmaps/NAME.png | the photograph, coloured; darkened where nobody looked |
| masks | anomaly_masks/NAME.png | 255 where an anomalous photograph is above the threshold |
| boxes | boxes/NAME.txt | YOLO: class 0, x and y of the centre, width, height, score |
| npy | anomaly_maps/NAME.npy | the anomaly map, float32 in [0, 1]; NaN where nobody looked |
| tiff | anomaly_maps/NAME.tiff | the same with 16 bits, 65535 for 1; 0 where nobody looked |

With `boxes` there is also `annotations.json`, of all photographs, in the format of COCO. `page`
makes `threshold.html`, see `sia_gen.evaluation.threshold_page`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from sia_gen.detection.detection import Detection
from sia_gen.errors import ImageError, OptionError, did_you_mean
from sia_gen.evaluation.predictions import Prediction
from sia_gen.evaluation.threshold_page import FOLDER, save_pictures
from sia_gen.images.files import HEATMAPS, MAPS, MASKS
from sia_gen.images.loading import ImageSpec
from sia_gen.images.opening import WIDEST
from sia_gen.images.strips import ROWS, Picture, open_strips
from sia_gen.io.files import FileGroups
from sia_gen.realnet.inference import AnomalyMap
from sia_gen.report.pictures import coloured
from sia_gen.report.png import write_png

BOXES, ANNOTATIONS, PAGE, NOTHING = "boxes", "annotations.json", "page", "none"
# What stands for a photograph that is gone.
GREY = np.uint8(128)


class Scored(NamedTuple):
    """A photograph and what was found in it."""

    path: Path
    white: int | None  # its value of white, if it has 16 bits
    detection: Detection


class Output(NamedTuple):
    """A kind of file about a photograph."""

    folder: str
    extension: str
    write: Callable[[Scored, Path], None]


def choose_outputs(text: str) -> list[str]:
    """Returns the outputs in a text such as `heatmaps,masks`; none for `none`.

    Raises:
        OptionError: If there is no such output.
    """
    names = [name.strip() for name in text.split(",") if name.strip() != NOTHING]
    known = [*OUTPUTS, PAGE]
    for name in names:
        if name not in known:
            raise OptionError(
                problem=f"--save: there is no output '{name}'{did_you_mean(name, known)}.",
                fix=f"Choose among {', '.join(known)}, separated by commas, or {NOTHING}.",
            )
    return list(dict.fromkeys(names))


def add_files(
    files: FileGroups, out: Path, names: Iterable[str], photo: str, scored: Scored
) -> None:
    """Has some outputs about a photograph written; `photo` is its relative path there."""
    for name in names:
        if name == PAGE:
            found = scored.detection
            picture = out / FOLDER / photo
            white, size = scored.white, found.size
            save_pictures(
                files, picture, scored.path, white, size, found.model_map, found.looked_at
            )
            continue
        output = OUTPUTS[name]
        path = (out / output.folder / photo).with_suffix(output.extension)
        files.add(path, partial(output.write, scored))


def coco(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Returns the regions of photographs as a data set of COCO; annotations have a `score` too."""
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for one in predictions:
        if one.size is None:
            continue
        width, height = one.size
        number = len(images) + 1
        images.append({"id": number, "file_name": one.image, "width": width, "height": height})
        annotations += [
            {
                "id": len(annotations) + place,
                "image_id": number,
                "category_id": 1,
                "bbox": list(region.box),
                "area": region.area,
                "segmentation": [[value for corner in region.contour for value in corner]],
                "iscrowd": 0,
                "score": region.score,
            }
            for place, region in enumerate(one.regions or (), 1)
        ]
    categories = [{"id": 1, "name": "anomaly"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _save_heatmap(scored: Scored, path: Path) -> None:
    anomaly_map = scored.detection.anomaly_map
    try:
        photograph = open_strips(scored.path, ImageSpec("RGB", 1, white=scored.white))
        if photograph.shape[1:] == anomaly_map.shape:
            _write_heatmap(path, photograph, anomaly_map)
            return
    except ImageError:
        pass
    # Lines move photographs on as soon as they can; what was found is still worth seeing.
    _write_heatmap(path, np.broadcast_to(GREY, (3, *anomaly_map.shape)), anomaly_map)


def _write_heatmap(path: Path, photograph: Picture, anomaly_map: AnomalyMap) -> None:
    write_png(path, (*anomaly_map.shape, 3), coloured(photograph, anomaly_map))


def _save_mask(scored: Scored, path: Path) -> None:
    anomaly_map = scored.detection.anomaly_map
    some = (anomaly_map[top : top + ROWS] for top in range(0, len(anomaly_map), ROWS))
    bands = (scored.detection.mask_of(rows)[..., None] * np.uint8(255) for rows in some)
    write_png(path, (*anomaly_map.shape, 1), bands)


def _save_boxes(scored: Scored, path: Path) -> None:
    width, height = scored.detection.size
    lines = []
    for region in scored.detection.regions:
        left, top, wide, high = region.box
        centre = (left + wide / 2) / width, (top + high / 2) / height
        values = (*centre, wide / width, high / height, region.score)
        lines.append(" ".join(["0", *(f"{value:.6f}" for value in values)]) + "\n")
    path.write_text("".join(lines), encoding="utf-8")


def _save_npy(scored: Scored, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, scored.detection.anomaly_map)


def _save_tiff(scored: Scored, path: Path) -> None:
    known = np.nan_to_num(scored.detection.anomaly_map)
    Image.fromarray((known * WIDEST).round().astype(np.uint16)).save(path, format="TIFF")


OUTPUTS = {
    "heatmaps": Output(HEATMAPS, ".png", _save_heatmap),
    "masks": Output(MASKS, ".png", _save_mask),
    BOXES: Output("boxes", ".txt", _save_boxes),
    "npy": Output(MAPS, ".npy", _save_npy),
    "tiff": Output(MAPS, ".tiff", _save_tiff),
}
