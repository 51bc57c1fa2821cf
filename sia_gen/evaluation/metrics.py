"""The metrics under their public name; see `sia_gen.metrics`."""

from sia_gen.metrics import auroc, average_precision, f1_max, per_region_overlap

__all__ = ["auroc", "average_precision", "f1_max", "per_region_overlap"]
