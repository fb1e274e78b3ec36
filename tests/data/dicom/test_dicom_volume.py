from __future__ import annotations

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from medseg.data.dicom.conversion import Display, convert
from medseg.data.dicom.volume import slices_of
from medseg.data.images import FileFault

PLAIN = Display(modality=True)
AXIAL = [1, 0, 0, 0, 1, 0]


@pytest.fixture
def series(make):
    """Write slices of two by three pixels: slice at height z holds 10 * k + pixel number, k by file name."""

    def write(heights, folder="ct", orientation=AXIAL, uid="1.2.3", **elements):
        for k, height in enumerate(heights):
            values = np.arange(6, dtype=np.int16).reshape(2, 3) + 10 * k
            place = {
                "SeriesInstanceUID": uid,
                "ImageOrientationPatient": orientation,
                "ImagePositionPatient": [5, -7, height],
                "PixelSpacing": [0.5, 0.25],
            }
            path = make(values, f"{folder}/{k}.dcm", **(place | elements))
        return path.parent

    return write


def test_a_series_is_sorted_by_place_and_turned_to_ras(series, tmp_path):
    folder = series([4, 0, 2])
    rows = convert(folder, tmp_path / "out", PLAIN, "nifti")
    assert [(row["output"], row["outcome"]) for row in rows] == [(str(tmp_path / "out/0.nii.gz"), "written")]
    image = nibabel.load(tmp_path / "out/0.nii.gz")
    volume = np.asarray(image.dataobj)
    assert (volume.shape, volume.dtype) == ((3, 2, 3), np.int16)
    # the lowest slice is file 1, then 2, then 0; the first axis goes along columns
    assert volume[0, 0].tolist() == [10, 20, 0]
    assert volume[:, 0, 0].tolist() == [10, 11, 12]
    assert volume[0, :, 0].tolist() == [10, 13]
    # columns go to the left by 0.25 mm, rows to the back by 0.5 mm, slices up by 2 mm, from (5, -7, 0) in LPS
    wanted = [[-0.25, 0, 0, -5], [0, -0.5, 0, 7], [0, 0, 2, 0], [0, 0, 0, 1]]
    assert np.allclose(image.affine, wanted)
    assert np.allclose(image.get_qform(), wanted)
    assert (int(image.header["sform_code"]), bytes(image.header["descrip"]).strip(b"\0")) == (1, b"")


def test_a_sagittal_series_lies_along_the_first_axis(series, tmp_path):
    folder = series([0, 0], orientation=[0, 1, 0, 0, 0, -1])
    for k, path in enumerate(sorted(folder.iterdir())):
        import pydicom

        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient = [10 - 3 * k, 0, 0]
        ds.save_as(path)
    convert(folder, tmp_path / "s.nii", PLAIN, "nifti")
    image = nibabel.load(tmp_path / "s.nii")
    # the normal of (0,1,0) and (0,0,-1) is (-1,0,0): slices go from 10 to 7 in LPS, to the right, as x of RAS grows
    assert np.allclose(image.affine, [[0, 0, 3, -10], [-0.25, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])
    assert nibabel.aff2axcodes(image.affine) == ("P", "I", "R")


def test_a_tilted_gantry_shears_the_volume(series, tmp_path):
    import pydicom

    folder = series([0, 2, 4])
    for k, path in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(path)
        ds.ImagePositionPatient = [0, k, 2 * k]
        ds.save_as(path)
    convert(folder, tmp_path / "s.nii", PLAIN, "nifti")
    image = nibabel.load(tmp_path / "s.nii")
    assert np.allclose(image.affine[:3, 2], [0, -1, 2])
    assert int(image.header["qform_code"]) == 0


@pytest.mark.parametrize(
    ("heights", "elements", "message"),
    [
        ([0, 2, 6, 8, 10], {}, "slices are 2.00 mm apart, but 4.00 mm after 2.00 mm"),
        ([0, 2, 2, 4], {}, "two slices lie at 2.00 mm"),
        ([0, 1], {"PixelSpacing": [1, -1]}, r"\(0028,0030\) Pixel Spacing is \(1.0, -1.0\), not two lengths"),
        ([0, 1], {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two perpendicular unit vectors"),
    ],
)
def test_places_that_form_no_volume_are_told(series, heights, elements, message):
    with pytest.raises(FileFault, match=message):
        slices_of(sorted(series(heights, **elements).iterdir()))


def test_sizes_and_orientations_that_differ_are_told(series, make):
    folder = series([0, 2])
    make(
        np.zeros((4, 3), np.int16), "ct/9.dcm", ImagePositionPatient=[5, -7, 4], ImageOrientationPatient=AXIAL
    )
    with pytest.raises(FileFault, match=r"9.dcm: is 3x4, 0.dcm of the same series is 3x2"):
        slices_of(sorted(folder.iterdir()))
    make(
        np.zeros((2, 3), np.int16),
        "ct/9.dcm",
        ImagePositionPatient=[5, -7, 4],
        ImageOrientationPatient=[0, 1, 0, 0, 0, 1],
    )
    with pytest.raises(FileFault, match="differ in pixel spacing or orientation"):
        slices_of(sorted(folder.iterdir()))


def test_slices_without_place_beside_others_are_told(series, make):
    folder = series([0, 2])
    make(np.zeros((2, 3), np.int16), "ct/9.dcm", ImageOrientationPatient=AXIAL, PixelSpacing=[0.5, 0.25])
    with pytest.raises(FileFault, match="1 slices have no place"):
        slices_of(sorted(folder.iterdir()))


def test_two_series_of_one_folder_stay_apart(series, tmp_path):
    folder = series([0, 2], uid="1.2.3")
    (folder / "0.dcm").rename(folder / "a.dcm")
    (folder / "1.dcm").rename(folder / "b.dcm")
    series([0, 2, 4], uid="1.2.4")
    convert(folder, tmp_path / "out", PLAIN, "nifti")
    shapes = {path.name: nibabel.load(path).shape for path in (tmp_path / "out").iterdir()}
    assert shapes == {"0.nii.gz": (3, 2, 3), "a.nii.gz": (3, 2, 2)}


def test_a_series_whose_uid_is_emptied_is_known_by_its_frame_of_reference(series, tmp_path):
    folder = series([0, 2], uid="", FrameOfReferenceUID="1.9")
    convert(folder, tmp_path / "out.nii", PLAIN, "nifti")
    assert nibabel.load(tmp_path / "out.nii").shape == (3, 2, 2)


def group(**sequences):
    made = Dataset()
    for name, elements in sequences.items():
        one = Dataset()
        for keyword, value in elements.items():
            setattr(one, keyword, value)
        setattr(made, name, [one])
    return made


def test_frames_are_sorted_by_their_own_places(make, tmp_path):
    path = make(
        np.arange(12, dtype=np.int16).reshape(2, 3, 2),
        SharedFunctionalGroupsSequence=[
            group(
                PlaneOrientationSequence={"ImageOrientationPatient": AXIAL},
                PixelMeasuresSequence={"PixelSpacing": [2, 3], "SliceThickness": 9},
            )
        ],
        PerFrameFunctionalGroupsSequence=[
            group(PlanePositionSequence={"ImagePositionPatient": [0, 0, 8]}),
            group(PlanePositionSequence={"ImagePositionPatient": [0, 0, 3]}),
        ],
    )
    convert(path, tmp_path / "v.nii.gz", PLAIN, "nifti")
    image = nibabel.load(tmp_path / "v.nii.gz")
    assert np.asarray(image.dataobj)[0, 0].tolist() == [6, 0]
    assert np.allclose(image.affine, [[-3, 0, 0, 0], [0, -2, 0, 0], [0, 0, 5, 3], [0, 0, 0, 1]])


def test_frames_of_a_dose_grid_lie_at_their_offsets(make, tmp_path):
    path = make(
        np.arange(4, dtype=np.uint16).reshape(2, 1, 2),
        ImageOrientationPatient=AXIAL, ImagePositionPatient=[0, 0, 10], PixelSpacing=[1, 1], GridFrameOffsetVector=[0, 4],
    )  # fmt: skip
    convert(path, tmp_path / "v.nii", PLAIN, "nifti")
    assert np.allclose(nibabel.load(tmp_path / "v.nii").affine[:3, 2:], [[0, 0], [0, 0], [4, 10]])


def test_frames_without_place_keep_their_order(make, tmp_path):
    path = make(np.arange(4, dtype=np.uint8).reshape(2, 1, 2), SpacingBetweenSlices=1.5)
    convert(path, tmp_path / "v.nii", PLAIN, "nifti")
    image = nibabel.load(tmp_path / "v.nii")
    assert np.asarray(image.dataobj)[:, 0].T.tolist() == [[0, 1], [2, 3]]
    assert (image.header["pixdim"][3], int(image.header["sform_code"])) == (1.5, 2)


def test_slopes_that_differ_give_single_precision(series, tmp_path):
    import pydicom

    folder = series([0, 2])
    ds = pydicom.dcmread(folder / "1.dcm")
    ds.RescaleSlope, ds.RescaleIntercept = 0.5, 0
    ds.save_as(folder / "1.dcm")
    convert(folder, tmp_path / "v.nii", PLAIN, "nifti")
    volume = np.asarray(nibabel.load(tmp_path / "v.nii").dataobj)
    assert volume.dtype == np.float32
    assert volume[:, 0, 1].tolist() == [5, 5.5, 6]


def test_the_real_series_lies_where_its_labels_lie(shared_data, tmp_path):
    pytest.importorskip("openjpeg")
    folder = shared_data / "dicom"
    convert(folder / "ct-series", tmp_path / "ct.nii.gz", PLAIN, "nifti")
    image, labels = nibabel.load(tmp_path / "ct.nii.gz"), nibabel.load(folder / "ct-series-labels.nii.gz")
    assert image.shape == labels.shape

    def box(volume):
        ends = np.array([[0, 0, 0], np.array(volume.shape) - 1])
        return np.sort(nibabel.affines.apply_affine(volume.affine, ends), axis=0)

    assert np.allclose(box(image), box(labels), atol=1e-3)
    values = np.asarray(image.dataobj)
    assert (values.dtype, values.min()) == (np.int16, -1024)
