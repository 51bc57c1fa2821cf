"""Large arrays in files, and medians without copies, against NumPy."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as arrays_of

from sia_gen.errors import OptionError
from sia_gen.io import arrays
from sia_gen.io.arrays import joined_rows, median_of


@pytest.mark.parametrize("largest", [0, arrays.LARGEST])
def test_rows_become_one_array(
    largest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGEST", largest)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = np.random.default_rng(0).random((31, 7), np.float32)
    found = joined_rows((expected[top : top + 4] for top in range(0, 31, 4)), (31, 7))
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    assert isinstance(found, np.memmap) == (largest == 0)
    # Whoever gets it may change it.
    found[3] = 2
    assert (found[3] == 2).all()
    del found
    gc.collect()
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(arrays, "LARGEST", 0)
    monkeypatch.setattr(arrays, "TemporaryFile", Full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space") as error:
        joined_rows([np.zeros((2, 3), np.float32)], (2, 3))
    assert error.value.filename == str(tmp_path)


def test_a_missing_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGEST", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OptionError, match="no folder for the temporary file"):
        joined_rows([np.zeros((2, 3), np.float32)], (2, 3))


@given(
    arrays_of(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 3)),
        elements=st.floats(0, 2**20, width=32, allow_subnormal=False)
        | st.sampled_from([0.0, 0.25, 1.0]),
    )
)
def test_median_is_that_of_numpy(values: np.ndarray) -> None:
    assert median_of(values) == float(np.median(values))


def test_median_of_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "PART", 1000)
    values = np.random.default_rng(0).random((101, 53), np.float32) ** 8
    assert median_of(values) == float(np.median(values))
    assert median_of(values[:, :50]) == float(np.median(values[:, :50]))
