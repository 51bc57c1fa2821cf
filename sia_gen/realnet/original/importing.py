"""Imports the checkpoints of the RealNet authors' `train_realnet.py` as folders of models.

No code in a checkpoint is run.

OUT/
    config.json, model.safetensors, recipe.yaml, fit.json
"""

from pathlib import Path

from sia_gen.config.recipe import Recipe
from sia_gen.diffusion.adm.importing import check_output, find_state_dict, read_checkpoint
from sia_gen.errors import ModelError
from sia_gen.io.files import prepare_output, sha256
from sia_gen.io.locks import working_on
from sia_gen.realnet.inference import MODEL_VERSION, REPORT
from sia_gen.realnet.model import RealNet
from sia_gen.realnet.original.convert import convert_state_dict
from sia_gen.realnet.original.settings import Settings, read_settings, require_same_network
from sia_gen.train.loop import save_model

# The fields of a report that are equal for equal imports.
IDENTITY = ("sha256", "settings_sha256")
# Their checkpoints have no threshold; where it is, a pixel is as likely normal as not.
THRESHOLD = 0.5
# Their training keeps the weights that are best on the test images.
SELECTED_ON = (
    f"THE TEST IMAGES by the authors' training, which chooses no threshold (it is {THRESHOLD}): "
    "not a fair measure"
)
# Our recipes by their names for data sets.
RECIPES = {"mvtec": "mvtec-ad", "visa": "visa", "mpdd": "mpdd", "btad": "btad"}


def import_realnet(checkpoint: Path, settings: Path, out: Path) -> str:
    """Imports the detector in a checkpoint and returns a description of it.

    Args:
        settings: The `realnet.yaml` that it was trained with.
        out: New folder, or that of an earlier import of the same.
    """
    known = read_settings(settings)
    model = _convert_file(checkpoint, known)
    report = {
        "model_version": MODEL_VERSION,
        "threshold": THRESHOLD,
        "selected_on": SELECTED_ON,
        "file": checkpoint.name,
        "sha256": sha256(checkpoint),
        "settings": settings.name,
        "settings_sha256": sha256(settings),
    }
    check_output(out / REPORT, report, IDENTITY)
    prepare_output(out)
    with working_on(out.parent, out.name):
        # Another process may have come first.
        check_output(out / REPORT, report, IDENTITY)
        save_model(out, model, _recipe(known), REPORT, report)
    blocks = " | ".join("+".join(layer.idx for layer in block.layers) for block in known.structure)
    return f"RealNet ({known.backbone}, {known.image_size} pixels, {blocks})"


def _convert_file(checkpoint: Path, settings: Settings) -> RealNet:
    content = read_checkpoint(checkpoint)
    try:
        require_same_network(settings, content)
        return convert_state_dict(find_state_dict(content), settings)
    except ModelError as error:
        raise ModelError(problem=f"{checkpoint}: {error.problem}", fix=error.fix) from error


def _recipe(settings: Settings) -> Recipe:
    """Returns the recipe of the images that a model takes."""
    changes = {
        # They resize both sides alone.
        "data.non_square": "stretch",
        "realnet.backbone": settings.backbone,
        "realnet.image_size": settings.image_size,
        "realnet.score_window": settings.score_window,
    }
    return Recipe.load(RECIPES[settings.dataset]).override(changes)
