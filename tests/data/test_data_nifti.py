from __future__ import annotations

import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medseg.data import nifti
from medseg.data.images import FileFault, read_image, read_mask, read_picture, slices
from medseg.errors import MedsegError
from medseg.transforms.picture import Picture
from medseg.transforms.window import WindowStep

#: all 48 ways in which the axes of a file can lie in the patient
CODES = [
    "".join(side) for axes in permutations((("L", "R"), ("P", "A"), ("I", "S"))) for side in product(*axes)
]
TILT = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, -0.15, 0.1) @ np.diag([0.7, 0.9, 3.0]), [-12.5, 30.25, 7]
)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None, **scaling: float) -> Path:
    image = nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine)
    image.header.set_data_dtype(data.dtype)
    if scaling:
        image.header.set_slope_inter(**scaling)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.to_filename(path)
    return path


def affine_of(codes: str, base: np.ndarray | None = None) -> np.ndarray:
    """An affine by which the axes of a file point to these sides; ``base`` is one of RAS axes."""
    orientations = [nibabel.orientations.axcodes2ornt(sides) for sides in ("RAS", codes)]
    turn = nibabel.orientations.ornt_transform(*orientations)
    return (np.eye(4) if base is None else base) @ nibabel.orientations.inv_ornt_aff(turn, (3, 4, 5))


def test_the_sides_of_the_patient_stand_where_a_radiologist_wants_them(tmp_path):
    assert len(set(CODES)) == 48
    data = np.zeros((3, 4, 2), np.int16)
    data[2, 1, 0] = 7  # x = 2 is the patient's right in R..., y = 1 is the second from behind, z = 0 the feet
    path = save(tmp_path / "a.nii.gz", data)
    picture = nifti.read_slice(path, 0)
    assert picture.values.shape == (1, 4, 3)
    # four rows from anterior: y = 1 is row 2; three columns from the right: x = 2 is column 0
    assert np.argwhere(picture.values[0]).tolist() == [[2, 0]]
    assert not nifti.read_slice(path, 1).values.any()


@pytest.mark.parametrize("base", [np.eye(4), TILT], ids=["straight", "oblique"])
def test_every_orientation_is_shown_alike_and_written_back_to_the_bit(tmp_path, base):
    for codes in CODES:
        data = np.random.default_rng(0).integers(0, 200, (3, 4, 5), dtype=np.int16)
        path = save(tmp_path / f"{codes}.nii", data, affine_of(codes, base))
        image = nibabel.load(path)
        assert "".join(nibabel.aff2axcodes(image.affine)) == codes
        canonical = np.asarray(nibabel.as_closest_canonical(image).dataobj)
        shown = np.stack([nifti.read_slice(path, k).values[0] for k in range(nifti.slices(path))])
        assert np.array_equal(shown, canonical[::-1, ::-1].transpose(2, 1, 0))
        out = tmp_path / f"{codes}_mask.nii"
        nifti.write_mask((shown > 100).astype(np.uint8), path, out)
        back = nibabel.load(out)
        assert np.array_equal(np.asarray(back.dataobj), data > 100)
        assert back.get_data_dtype() == np.uint8
        assert np.array_equal(back.affine, image.affine)
        for name in (
            "sform_code",
            "qform_code",
            "pixdim",
            "srow_x",
            "srow_y",
            "srow_z",
            "qoffset_x",
            "xyzt_units",
        ):
            assert np.array_equal(back.header[name], image.header[name]), name


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 1, 1)])
def test_a_single_plane_is_one_slice_and_keeps_its_shape(tmp_path, shape):
    data = np.arange(12, dtype=np.int16).reshape(shape)
    path = save(tmp_path / "flat.nii.gz", data)
    assert slices(path) == 1
    assert np.array_equal(nifti.read_slice(path).values[0], data.reshape(4, 3)[::-1, ::-1].T)
    nifti.write_mask(np.ones((1, 3, 4), np.uint8), path, tmp_path / "m.nii.gz")
    assert nibabel.load(tmp_path / "m.nii.gz").shape == nibabel.load(path).shape


def test_a_coronal_and_a_sagittal_plane_are_shown_head_up(tmp_path):
    data = np.arange(12, dtype=np.int16).reshape(4, 3, 1)
    coronal = save(tmp_path / "c.nii", data, affine_of("RSA"))
    # x to the right, z to the head: columns from the right, rows from the head
    assert np.array_equal(nifti.read_slice(coronal).values[0], data[::-1, ::-1, 0].T)
    sagittal = save(tmp_path / "s.nii", data, affine_of("ASR"))
    # y to the front: columns from the front
    assert np.array_equal(nifti.read_slice(sagittal).values[0], data[::-1, ::-1, 0].T)
    for path in (coronal, sagittal):
        nifti.write_mask((nifti.read_slice(path).values > 5).astype(np.uint8), path, tmp_path / "m.nii")
        assert np.array_equal(np.asarray(nibabel.load(tmp_path / "m.nii").dataobj), data > 5)


def test_whole_numbers_stay_in_the_units_of_the_modality(tmp_path):
    raw = np.array([[[0, 1]], [[24, 4095]]], np.int16)
    path = save(tmp_path / "ct.nii.gz", raw, slope=1, inter=-1024)
    picture = nifti.read_slice(path, 1)
    assert picture.values.tolist() == [[[3071, -1023]]]
    assert picture.values.dtype.kind == "i"
    # the range is the volume's: -1024 lies in the other slice
    assert (picture.low, picture.high) == (-1024, 3071)
    # (-1023 + 1024) / 4095 of 65535
    assert picture.stored().tolist() == [[[65535, 16]]]
    floats = save(tmp_path / "f.nii.gz", (raw - 1024.0).astype(np.float32))
    assert np.array_equal(nifti.read_slice(floats, 1).values, picture.values)


def test_other_numbers_are_mapped_to_sixteen_bits(tmp_path):
    path = save(tmp_path / "map.nii.gz", np.array([[[0.5, -0.5]], [[0.25, 1.5]]], np.float32))
    picture = nifti.read_slice(path, 0)
    # -0.5 is 0 and 1.5 is 65535; the values 0.25 and 0.5 are 0.375 and 0.5 of the way
    assert picture.values.tolist() == [[[24576, 32768]]]
    assert (picture.low, picture.high, picture.values.dtype) == (0, 65535, np.uint16)
    half = save(tmp_path / "half.nii.gz", np.array([[[0, 1, 2]]], np.int16), slope=0.5, inter=0)
    assert [int(nifti.read_slice(half, k).values[0, 0, 0]) for k in range(3)] == [0, 32768, 65535]


def test_a_window_in_lost_units_is_refused(tmp_path):
    values = np.array([[[40.5, -1000.0]], [[30.0, 900.0]]])
    fractions = save(tmp_path / "ct.nii.gz", values.astype(np.float32))
    whole = save(tmp_path / "whole.nii.gz", np.rint(values).astype(np.int16))
    given = WindowStep(center=40, width=400)
    assert given(read_picture(whole, 1)).values.max() == 128
    picture = read_picture(fractions, 1)
    assert picture.unitless and Picture.from_meta(picture.values, picture.meta()).unitless
    with pytest.raises(MedsegError, match="save it with whole numbers"):
        given(picture)
    shown = WindowStep(to="uint16")(picture)
    assert np.array_equal(shown.values, picture.values) and not shown.unitless


def test_bytes_keep_their_range_so_that_volumes_have_one_depth(tmp_path):
    path = save(tmp_path / "b.nii.gz", np.array([[[3, 7]]], np.uint8))
    assert read_image(path, 1).dtype == np.uint8
    assert (nifti.read_slice(path).low, nifti.read_slice(path).high) == (0, 255)


def test_a_slice_is_addressed_and_repeats_into_three_channels(tmp_path):
    path = save(tmp_path / "v.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    assert read_picture(Path(f"{path}#3"), 3).values.shape == (3, 3, 2)
    assert read_picture(Path(f"{path}#3"), 1).values[0, 2, 1] == 3
    with pytest.raises(FileFault, match=r"v.nii.gz: has slices 0 to 3, not 4"):
        read_picture(Path(f"{path}#4"), 1)
    with pytest.raises(FileFault, match=r"no slice 'x'; name a slice by its number from 0"):
        read_picture(Path(f"{path}#x"), 1)


def test_a_volume_is_decoded_once_and_again_when_it_changed(tmp_path, monkeypatch):
    decoded = []
    original = nifti._decoded
    monkeypatch.setattr(nifti, "_decoded", lambda path, size: decoded.append(path) or original(path, size))
    path = save(tmp_path / "v.nii", np.zeros((2, 3, 4), np.int16))
    for k in range(4):
        nifti.read_slice(path, k)
    assert decoded == [path]
    save(path, np.ones((2, 3, 5), np.int16))
    assert nifti.read_slice(path, 4).values.all()
    assert decoded == [path, path]


def test_labels_are_masks(tmp_path):
    path = save(tmp_path / "seg.nii.gz", np.array([[[0, 2]], [[117, 0]]], np.uint8))
    assert read_mask([Path(f"{path}#0")]).tolist() == [[1, 0]]
    assert read_mask([Path(f"{path}#1")], value=2).tolist() == [[0, 1]]
    with pytest.raises(FileFault, match="the mask is empty"):
        read_mask([Path(f"{path}#1")], value=117)
    soft = save(tmp_path / "soft.nii.gz", np.array([[[0.0, 0.5]]], np.float32))
    with pytest.raises(FileFault, match="labels are no whole numbers"):
        read_mask([Path(f"{soft}#0")])
    below = save(tmp_path / "below.nii.gz", np.array([[[-1, 1]]], np.int16))
    with pytest.raises(FileFault, match="unexpected mask values -1, wanted 0 and one value above it"):
        read_mask([Path(f"{below}#0")])


def test_unusable_volumes_say_why(tmp_path):
    with pytest.raises(FileFault, match="none.nii: no such file"):
        nifti.slices(tmp_path / "none.nii")
    with pytest.raises(FileFault, match="none.nii: no such file"):
        nifti.read_slice(tmp_path / "none.nii")
    four = save(tmp_path / "four.nii", np.zeros((2, 2, 2, 3), np.int16))
    with pytest.raises(FileFault, match=r"holds several volumes \(2 x 2 x 2 x 3\); save each volume"):
        nifti.slices(four)
    nan = save(tmp_path / "nan.nii", np.array([[[np.nan, np.inf, 0]]], np.float32))
    with pytest.raises(FileFault, match="2 of its values are no numbers"):
        nifti.read_slice(nan)
    colour = np.zeros((2, 2, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    with pytest.raises(FileFault, match=r"pixel type .* is not supported"):
        nifti.read_slice(save(tmp_path / "rgb.nii", colour))
    flat = bytearray(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), np.eye(4)).to_bytes())
    flat[312:328] = bytes(16)  # srow_z
    (tmp_path / "flat.nii").write_bytes(flat)
    with pytest.raises(FileFault, match="its affine does not say where its axes point; correct the affine"):
        nifti.slices(tmp_path / "flat.nii")
    path = save(tmp_path / "ok.nii.gz", np.random.default_rng(0).integers(0, 999, (8, 8, 8), dtype=np.int16))
    whole = path.read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFault, match=r"cut.nii.gz: cannot be read as NIfTI \(.*\); replace it"):
        nifti.read_slice(tmp_path / "cut.nii.gz")
    raw = bytearray(gzip.decompress(whole))
    (tmp_path / "short.nii").write_bytes(raw[:600])
    with pytest.raises(FileFault, match="cannot be read as NIfTI"):
        nifti.read_slice(tmp_path / "short.nii")
    raw[344:348] = b"nope"
    (tmp_path / "magic.nii").write_bytes(raw)
    with pytest.raises(FileFault, match="cannot be read as NIfTI"):
        nifti.slices(tmp_path / "magic.nii")
    (tmp_path / "text.nii.gz").write_text("hello")
    with pytest.raises(FileFault, match="cannot be read as NIfTI"):
        nifti.slices(tmp_path / "text.nii.gz")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
@example(changes=[(299, 89)])  # one axis 1e16 times as long as the others
def test_no_header_however_broken_ends_in_another_error(tmp_path, changes):
    data = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    for place, value in changes:
        data[place] = value
    path = tmp_path / "fuzzed.nii"
    path.write_bytes(data)
    try:
        picture = nifti.read_slice(path)
    except FileFault:
        return
    assert picture.values.ndim == 3
    assert 0 <= picture.stored().min() <= picture.stored().max() <= 65535


def test_a_header_that_promises_too_much_is_not_believed(tmp_path):
    data = bytearray(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    data[42:48] = np.full(3, 32767, np.int16).tobytes()
    (tmp_path / "huge.nii").write_bytes(data)
    with pytest.raises(FileFault, match="the file is cut short"):
        nifti.read_slice(tmp_path / "huge.nii")


def test_masks_that_do_not_fit_are_not_written(tmp_path):
    path = save(tmp_path / "v.nii.gz", np.zeros((2, 3, 4), np.int16))
    with pytest.raises(MedsegError, match=r"masks are \(4, 2, 3\), v.nii.gz has slices of \(4, 3, 2\)"):
        nifti.write_mask(np.zeros((4, 2, 3), np.uint8), path, tmp_path / "m.nii.gz")
    with pytest.raises(MedsegError, match=r"m.png: a NIfTI file ends in .nii or .nii.gz"):
        nifti.write_mask(np.zeros((4, 3, 2), np.uint8), path, tmp_path / "m.png")


def test_how_far_a_mask_lies_from_its_image(tmp_path):
    one = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16), np.diag([2.0, 2, 2, 1]))
    moved = np.diag([2.0, 2, 2, 1])
    moved[0, 3] = 3
    assert nifti.shift(one, save(tmp_path / "b.nii", np.zeros((2, 3, 4), np.int16), moved)) == pytest.approx(
        1.5
    )
    other = nibabel.load(one).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    other.to_filename(tmp_path / "c.nii")
    assert nibabel.load(tmp_path / "c.nii").shape == (3, 4, 2)
    assert nifti.shift(one, tmp_path / "c.nii") == 0


def test_real_volumes(shared_data):
    folder = shared_data / "nifti"
    assert slices(folder / "example_ct_sm.nii.gz") == 30
    picture = read_picture(folder / "example_ct_sm.nii.gz#15", 1)
    assert picture.values.shape == (1, 101, 122)
    assert (picture.low, picture.high) == (-1100, 1207)
    # liver (TotalSegmentator's label 5) lies on the patient's right, which is the left half of the image
    liver = np.stack([nifti.read_labels(folder / "example_seg.nii.gz", k) == 5 for k in range(30)])
    assert np.argwhere(liver)[:, 2].mean() < 122 / 2
    labels = folder.parent / "dicom" / "ct-series-labels.nii.gz"
    assert slices(labels) == 20
