"""Imports ADM checkpoints as diffusers models."""

from sia_gen.diffusion.adm.convert import convert_adm_state_dict

__all__ = ["convert_adm_state_dict"]
