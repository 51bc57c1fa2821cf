"""What each step of a run takes, in seconds, from the speed of this machine.

The parts are those that take long: passes of networks, anomalies, and photographs that are read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sia_gen.config.recipe import Recipe
from sia_gen.config.settings import RealNetFit
from sia_gen.corpus.sampling import steps_of
from sia_gen.diffusion.preview import COLUMNS, INVERSION_STEPS
from sia_gen.diffusion.preview import STRENGTHS as PREVIEWED
from sia_gen.evaluation.pages import PICTURES
from sia_gen.images.found import Found
from sia_gen.inspection.strength_curve import SAMPLES, ladder
from sia_gen.realnet.selection import MOST_PLACED
from sia_gen.realnet.structure import RETRIEVAL
from sia_gen.run.speed import DetectorSpeed, DiffusionSpeed, diffusion_speed
from sia_gen.runtime.device import Runtime
from sia_gen.sdas.arguments import steps_from
from sia_gen.twins import masks

# Groups of test images that the page of an evaluation shows.
GROUPS_SHOWN = 4
# Validations score normal photographs, and anomalies of two kinds in them.
KINDS_VALIDATED = 3


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine, of all categories of a run together."""

    found: Mapping[str, Found]  # by category
    diffusion: DiffusionSpeed
    detector: DetectorSpeed

    def steps(self, recipe: Recipe) -> dict[str, float]:
        """Returns the seconds of each step with the settings of a recipe."""
        return {
            "train-diffusion": self.training(recipe) + self.reading,
            "calibrate": self.calibration(recipe),
            "synthesize": self.synthesis(recipe) + self.reading,
            "fit-realnet": self.fitting(recipe.realnet) + self.reading,
            "evaluate": self.evaluation,
        }

    @property
    def fixed(self) -> float:
        """Seconds that no setting changes: to read photographs, and to evaluate."""
        return 3 * self.reading + self.evaluation

    @property
    def reading(self) -> float:
        """Seconds to read the photographs of good parts once."""
        count = sum(found.fit + found.validation for found in self.found.values())
        return count * self.detector.reading

    @property
    def evaluation(self) -> float:
        """Seconds to read and to score the test images, and to write their pictures."""
        counts = [found.test_normal + found.test_anomalous for found in self.found.values()]
        # Those that are shown are scored once more.
        count = sum(counts) + sum(min(count, GROUPS_SHOWN * PICTURES) for count in counts)
        each = self.detector.tiles * self.detector.score + self.detector.reading
        return count * each + sum(counts) * self.detector.picture

    def training(self, recipe: Recipe) -> float:
        """Seconds to train the diffusion models."""
        steps = len(self.found) * recipe.diffusion.max_steps * self.training_step(recipe)
        return steps + self.previews(recipe)

    def training_step(self, recipe: Recipe) -> float:
        """Seconds of a step of a training."""
        settings = recipe.diffusion
        return self.diffusion.step * settings.batch_size * settings.gradient_accumulation

    def previews(self, recipe: Recipe) -> float:
        """Seconds of all previews of the trainings."""
        settings, passes = recipe.diffusion, len(PREVIEWED) * recipe.synthesis.steps
        columns = sum(min(COLUMNS, found.validation) for found in self.found.values())
        count = -(-settings.max_steps // settings.preview_every)
        return count * columns * (passes + 2 * INVERSION_STEPS) * self.diffusion.image

    def calibration(self, recipe: Recipe) -> float:
        """Seconds to measure strengths if the recipe asks for it and no measurement ends early."""
        if recipe.synthesis.strength != "auto":
            return 0.0
        twins = recipe.synthesis.twins is not None
        cases = len(self.found) * len(recipe.synthesis.perturbation)
        samples = cases * SAMPLES * len(ladder(twins=twins))
        chance = len(self.found) * self._chance(recipe)
        return self.reading + samples * self._sample(recipe) + chance

    def synthesis(self, recipe: Recipe) -> float:
        """Seconds to make the corpus."""
        each = recipe.synthesis.images * self._sample(recipe) + self._chance(recipe)
        return len(self.found) * each

    def images_within(self, seconds: float, recipe: Recipe) -> int:
        """Returns how many samples per category can be made in some seconds; 0 or less if none."""
        each = seconds / len(self.found) - self._chance(recipe)
        return int(each / self._sample(recipe))

    def _sample(self, recipe: Recipe) -> float:
        """Seconds for a sample; for twins with their mask."""
        mask = 0.0
        if recipe.synthesis.twins is not None:
            mask = 2 * self.detector.mask + self.diffusion.region
        return steps_of(recipe.synthesis) * self.diffusion.image + mask

    def _chance(self, recipe: Recipe) -> float:
        """Seconds to learn what chance does to twins, which takes images and their features."""
        twins, steps = recipe.synthesis.twins, recipe.synthesis.steps
        if twins is None:
            return 0.0
        start = twins.start if twins.source == "image" else 1.0
        again = masks.TIMES * masks.IMAGES
        passes = masks.IMAGES * steps_from(start, steps) + again * steps_from(masks.START, steps)
        # Distances of all pairs are measured for the levels, then in their units.
        features = masks.IMAGES + 2 * 2 * again
        regions = again * masks.REGION_DRAWS * self.diffusion.region
        return passes * self.diffusion.image + features * self.detector.mask + regions

    def fitting(self, settings: RealNetFit) -> float:
        """Seconds to fit the detectors."""
        before_and_after = sum(self._around(settings, found) for found in self.found.values())
        steps = len(self.found) * settings.max_steps * self.fitting_step(settings)
        return before_and_after + steps

    def fitting_step(self, settings: RealNetFit) -> float:
        """Seconds of a step of a fit."""
        anomalies = settings.anomalous_fraction * self.detector.anomaly
        return settings.batch_size * (self.detector.step + anomalies)

    def _around(self, settings: RealNetFit, found: Found) -> float:
        """Seconds of a fit before its first step, in validations, and after the last step."""
        speed, images = self.detector, settings.afs_batches * settings.batch_size
        fit, validation = (speed.tiles * count for count in (found.fit, found.validation))
        retrieves = settings.architecture == RETRIEVAL
        seconds = images * (2 * speed.features + speed.anomaly)
        seconds += fit * speed.features * (settings.standardise + retrieves)
        if retrieves and settings.memory_choice == "coreset":
            seconds += settings.memory_size * speed.patch
        validations = -(-settings.max_steps // settings.validate_every)
        scored = validations * (KINDS_VALIDATED + retrieves) * validation
        if settings.position:
            scored += validations * speed.tiles * min(found.fit, MOST_PLACED)
        scored += validation + retrieves * fit
        return seconds + scored * speed.score


def timed_costs(
    found: Mapping[str, Found], detector: DetectorSpeed, runtime: Runtime
) -> Callable[[Recipe], Costs]:
    """Returns a function that times the network of a recipe, each once, and returns its costs."""
    speeds: dict[tuple[str, int], DiffusionSpeed] = {}

    def costs_of(recipe: Recipe) -> Costs:
        network = recipe.diffusion.preset, recipe.diffusion.image_size
        if network not in speeds:
            speeds[network] = diffusion_speed(recipe, runtime)
        return Costs(found, speeds[network], detector)

    return costs_of
