"""Imports checkpoints of the RealNet authors' `train_realnet.py`."""
