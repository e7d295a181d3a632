"""Files from real microscopes; they lie outside the project, so these tests skip without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lowdose.errors import LowdoseError
from lowdose.io import open_stack


@pytest.mark.parametrize(
    ("name", "axes", "shape", "dtype", "pixel_x", "unit"),
    [
        ("real/Tecnai_Osiris_SrTiO3.tif", "YX", (512, 512), "uint16", 0.0135172, "nm"),
        ("real/REBCO-ROI_raw.dm3", "YX", (128, 128), "uint16", 0.054082, "nm"),
        ("real/EMDReader_SpectrumImage_Si.emd", "YXT", (16, 16, 5), "uint16", 5.302415, "nm"),
        ("real/emd_3001.map.gz", "ZYX", (25, 43, 73), "float32", 0.45875, "Å"),
        ("real/Si110_5nmX25us_03_none_none.png", "YX", (512, 512), "uint8", None, None),
        ("formats/128x128x5-diffraction_preview_1.ser", "TYX", (5, 128, 128), "int32", None, None),
        ("formats/64x64x5_TEM_preview_1.ser", "TYX", (5, 64, 64), "float32", 6.281834, "nm"),
        ("formats/HAADFscan.mrc", "YX", (16, 16), "uint16", 56.791313, "Å"),
        ("formats/test_STEM_image.dm3", "YX", (68, 68), "uint32", 0.248538, "nm"),
        ("formats/test_stackbuilder_imagestack.dm3", "TYX", (3, 2, 16), "uint32", 0.0599829, "µm"),
        ("formats/dmTest_3D_int16_64,65,66.dm4", "ZYX", (66, 65, 64), "int16", 2.0, "pm"),
        ("formats/fei_example_tem_stack.emd", "YXT", (3, 3, 2), "int16", 0.00817288, "nm"),
        ("formats/test1.blo", "VUYX", (3, 2, 144, 144), "uint8", 0.0160617, "cm"),
    ],
)
def test_real_file(
    shared_data: Path,
    name: str,
    axes: str,
    shape: tuple[int, ...],
    dtype: str,
    pixel_x: float | None,
    unit: str | None,
) -> None:
    with open_stack(shared_data / name) as reader:
        assert (reader.axes, reader.shape, reader.dtype) == (axes, shape, np.dtype(dtype))
        assert reader.pixel_unit == unit
        if pixel_x is None:
            assert reader.pixel_size is None
        else:
            assert reader.pixel_size is not None
            assert reader.pixel_size[1] == pytest.approx(pixel_x, rel=1e-5)
        frame = reader.read(reader.n_frames - 1)
        assert frame.shape == (1, reader.height, reader.width) and frame.any()


def test_camera_frame_time(shared_data: Path) -> None:
    with open_stack(shared_data / "formats/fei_example_tem_stack.emd") as reader:
        assert (reader.frame_interval, reader.frame_interval_unit) == (pytest.approx(0.8), "s")


def test_spectra_are_no_image(shared_data: Path) -> None:
    with pytest.raises(LowdoseError, match="holds no image"):
        open_stack(shared_data / "real/EDS-STO.emd")


def test_two_depths_must_be_chosen_from(shared_data: Path) -> None:
    path = shared_data / "formats/Si100_4D.emd"
    with pytest.raises(LowdoseError, match="CBED_array_depth0001"):
        open_stack(path)
    name = "4DSTEM_simulation/data/datacubes/CBED_array_depth0001/datacube"
    with open_stack(f"{path}::{name}") as reader:
        assert (reader.axes, reader.n_frames) == ("VUYX", 121)
