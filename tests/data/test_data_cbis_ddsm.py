"""CBIS-DDSM on small DICOM files in the layouts of TCIA, with what is known to be mixed up in them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from medseg.data.index import FaultyFiles, build_index, read_sample
from medseg.data.splits import make_splits
from medseg.data.store import refreshed
from medseg.errors import MedsegError

HEIGHT, WIDTH = 60, 40
COLUMNS = (
    *("patient_id", "breast_density", "left or right breast", "image view", "abnormality id"),
    *("abnormality type", "mass shape", "mass margins", "assessment", "pathology", "subtlety"),
    *("image file path", "cropped image file path", "ROI mask file path"),
)
CSVS = [f"{kind}_case_description_{part}_set.csv" for kind in ("mass", "calc") for part in ("train", "test")]


def write_dicom(path: Path, pixels: np.ndarray, series: str) -> None:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesDescription, data.Modality, data.PhotometricInterpretation = series, "MG", "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = *pixels.shape, 1, 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def film(seed: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


def roi(row: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """A mask of six rows from ``row`` on, over the left half."""
    mask = np.zeros(shape, np.uint8)
    mask[row : row + 6, : shape[1] // 2] = 255
    return mask


class Archive:
    """Writes films, ROIs and their CSV rows below one folder.

    Args:
        top: the folder of the CSVs.
        new: naming of the newer NBIA Data Retriever: dates and descriptions, ``1-1.dcm``; else UIDs and
            ``000000.dcm``.
    """

    def __init__(self, top: Path, new: bool = True) -> None:
        self.top, self.new = top, new
        self.rows: dict[str, list[dict[str, str]]] = {name: [] for name in CSVS}

    def place(self, folder: str, series: str, number: int) -> Path:
        if self.new:
            place = f"manifest-1/CBIS-DDSM/{folder}/07-20-2016-DDSM-NA-30288/1.000000-{series}-24515"
            return self.top / place / f"1-{number + 1}.dcm"
        return self.top / f"CBIS-DDSM/{folder}/1.3.6.1.4.1.9590.1/1.3.6.1.4.1.9590.2/{number:06d}.dcm"

    def film(self, folder: str, pixels: np.ndarray) -> None:
        write_dicom(self.place(folder, "full mammogram images", 0), pixels, "full mammogram images")

    def roi(
        self,
        folder: str,
        mask: np.ndarray,
        crop: np.ndarray | None = None,
        swapped: bool = False,
        apart: bool = False,
    ) -> None:
        """Both files of a ROI: in one series or two, in either order and with either's description."""
        names = ["ROI mask images", "cropped images"]
        pixels = [mask, film(99, (8, 8)) if crop is None else crop]
        for number, (series, values) in enumerate(
            zip(names, pixels[::-1] if swapped else pixels, strict=True)
        ):
            write_dicom(
                self.place(folder, series if apart else names[0], 0 if apart and self.new else number),
                values,
                series,
            )

    def row(
        self, kind: str, part: str, view: str, number: int = 1, pathology: str = "BENIGN", **other: str
    ) -> None:
        patient, side, projection = view[:7], *view[8:].split("_")
        folder = f"{kind}-{'Training' if part == 'train' else 'Test'}_{view}"
        path = "1.3.6.1.4.1.9590.100.1.2.1/1.3.6.1.4.1.9590.100.1.2.2"
        values = {
            "patient_id": patient,
            "left or right breast": side,
            "image view": projection,
            "abnormality id": str(number),
            "abnormality type": "mass" if kind == "Mass" else "calcification",
            "pathology": pathology,
            "image file path": f"{folder}/{path}/000000.dcm",
            "cropped image file path": f"{folder}_{number}/{path}/000000.dcm",
            "ROI mask file path": f"{folder}_{number}/{path}/000001.dcm\n",  # so in the official files
        }
        self.rows[f"{kind.lower()}_case_description_{part}_set.csv"].append(values | other)

    def finish(self) -> Path:
        self.top.mkdir(parents=True, exist_ok=True)
        for name, rows in self.rows.items():
            with (self.top / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
        return self.top

    def whole(self, view: str, row: int, part: str = "train", kind: str = "Mass", **arguments: bool) -> None:
        """A film with one ROI and its row."""
        folder = f"{kind}-{'Training' if part == 'train' else 'Test'}_{view}"
        self.film(folder, film(row))
        self.roi(f"{folder}_1", roi(row), **arguments)
        self.row(kind, part, view)


@pytest.mark.parametrize("new", [True, False], ids=["1-1.dcm", "000000.dcm"])
@pytest.mark.parametrize("swapped", [True, False], ids=["swapped", "in order"])
@pytest.mark.parametrize("apart", [True, False], ids=["two series", "one series"])
def test_masks_are_told_by_their_pixels(tmp_path, new, swapped, apart):
    archive = Archive(tmp_path / "data", new)
    archive.whole("P_00001_LEFT_CC", 5, swapped=swapped, apart=apart)
    archive.whole("P_00002_RIGHT_MLO", 20, "test", swapped=swapped, apart=apart)
    index = build_index("cbis_ddsm_mass", archive.finish())
    assert (index.depth, index.channels) == ("uint16", 1)
    first, second = index.samples
    assert (first.case, first.group, first.part) == ("Mass-Training_P_00001_LEFT_CC", "P_00001", "training")
    assert (second.case, second.group, second.part) == ("Mass-Test_P_00002_RIGHT_MLO", "P_00002", "testing")
    for sample, row in ((first, 5), (second, 20)):
        picture, mask = read_sample(index, sample)
        assert np.array_equal(picture.values[0], film(row))
        assert np.array_equal(mask, roi(row) // 255)
        assert len(sample.masks) == 1
    assert refreshed(index, None) is index


def test_rois_of_one_film_are_united_and_malignant_if_one_is(tmp_path):
    archive = Archive(tmp_path)
    archive.whole("P_00001_LEFT_CC", 5)
    archive.roi("Mass-Training_P_00001_LEFT_CC_2", roi(30), swapped=True)
    archive.row("Mass", "train", "P_00001_LEFT_CC", 2, "MALIGNANT")
    archive.whole("P_00003_LEFT_CC", 7)
    archive.rows[CSVS[0]][-1]["pathology"] = "BENIGN_WITHOUT_CALLBACK"
    index = build_index("cbis_ddsm_mass", archive.finish())
    assert [s.category for s in index.samples] == ["malignant", "benign"]
    assert np.array_equal(read_sample(index, index.samples[0])[1], (roi(5) | roi(30)) // 255)
    assert [len(s.masks) for s in index.samples] == [2, 1]


def test_masses_and_calcifications_of_one_film_are_one_sample(tmp_path):
    archive = Archive(tmp_path)
    archive.whole("P_00001_LEFT_CC", 5)
    archive.whole("P_00001_LEFT_CC", 30, "test", "Calc")
    archive.whole("P_00001_LEFT_MLO", 8)
    archive.whole("P_00002_LEFT_CC", 9, "train", "Calc")
    top = archive.finish()
    index = build_index("cbis_ddsm", top)
    assert {s.case: s.part for s in index.samples} == {
        "P_00001_LEFT_CC": "testing",
        "Mass-Training_P_00001_LEFT_MLO": "training",
        "Calc-Training_P_00002_LEFT_CC": "training",
    }
    assert np.array_equal(read_sample(index, index.samples[0])[1], (roi(5) | roi(30)) // 255)
    # the other view of the test patient leaves the training part, which then has nothing to draw validation from
    with pytest.raises(MedsegError, match="1 groups cannot fill 2 parts"):
        make_splits(index, "official", repeats=1)
    assert len(build_index("cbis_ddsm_mass", top).samples) == 2


def test_masks_of_another_size_are_fitted_or_reported(tmp_path):
    archive = Archive(tmp_path)
    archive.film("Mass-Training_P_00001_LEFT_CC", film(1))
    archive.roi("Mass-Training_P_00001_LEFT_CC_1", roi(10, (HEIGHT * 2, WIDTH * 2)))
    archive.row("Mass", "train", "P_00001_LEFT_CC")
    archive.film("Mass-Training_P_00002_LEFT_CC", film(2))
    archive.roi("Mass-Training_P_00002_LEFT_CC_1", roi(10, (HEIGHT, WIDTH + 2)))
    archive.row("Mass", "train", "P_00002_LEFT_CC")
    with pytest.raises(FaultyFiles) as caught:
        build_index("cbis_ddsm_mass", archive.finish())
    assert [fault.reason for fault in caught.value.faults] == [
        "mask is 42x60, image is 40x60 (width x height): their proportions differ by 4.8%"
    ]
    index = build_index("cbis_ddsm_mass", tmp_path, skip_faulty=True)
    # rows 10 to 15 of 120 are rows 5 to 7 of 60
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[5:8, : WIDTH // 2] = 1
    assert np.array_equal(read_sample(index, index.samples[0])[1], wanted)


def test_what_is_missing_or_no_mask_is_reported(tmp_path):
    archive = Archive(tmp_path)
    archive.whole("P_00001_LEFT_CC", 5)
    archive.row("Mass", "train", "P_00001_LEFT_CC", 2)  # a ROI without files
    archive.roi("Mass-Training_P_00002_LEFT_CC_1", roi(5))  # a ROI without film
    archive.row("Mass", "train", "P_00002_LEFT_CC")
    archive.whole("P_00003_LEFT_CC", 6)
    for file in tmp_path.rglob("Mass-Training_P_00003_LEFT_CC_1/**/1-1.dcm"):
        file.unlink()  # the mask; the crop stays
    archive.film("Mass-Training_P_00004_LEFT_CC", film(4))
    archive.roi("Mass-Training_P_00004_LEFT_CC_1", roi(5), crop=roi(7))  # two masks
    archive.row("Mass", "train", "P_00004_LEFT_CC")
    archive.film("Mass-Training_P_00005_LEFT_CC", film(4))
    archive.roi("Mass-Training_P_00005_LEFT_CC_1", film(3), crop=film(7, (8, 8)))  # none
    archive.row("Mass", "train", "P_00005_LEFT_CC")
    archive.whole("P_00006_LEFT_CC", 12)
    write_dicom(archive.place("Mass-Training_P_00006_LEFT_CC", "full mammogram images", 1), film(1), "")
    archive.whole("P_00007_LEFT_CC", 13)
    with pytest.raises(FaultyFiles) as caught:
        build_index("cbis_ddsm_mass", archive.finish())
    reasons = {fault.case[-15:-8]: fault.reason for fault in caught.value.faults}
    assert reasons.pop("P_00005").startswith("unexpected mask values ")
    assert reasons == {
        "P_00001": "no such file",
        "P_00002": "no such file",
        "P_00003": "0 of its 1 files have the two values of a mask",
        "P_00004": "2 of its 2 files have the two values of a mask",
        "P_00006": "holds several DICOM files or none",
    }
    assert all(fault.file.count("Mass-Training") == 1 for fault in caught.value.faults)


def test_a_folder_that_is_no_archive_says_so(tmp_path):
    archive = Archive(tmp_path / "a")
    archive.row("Mass", "train", "P_00001_LEFT_CC")
    with pytest.raises(
        MedsegError, match=r"holds the CSVs but no folder such as Mass-Training_P_00001_LEFT_CC"
    ):
        build_index("cbis_ddsm_mass", archive.finish())
    (tmp_path / "a" / CSVS[1]).unlink()
    with pytest.raises(
        MedsegError, match="no folder here or below holds mass_case_description_train_set.csv, mass"
    ):
        build_index("cbis_ddsm_mass", tmp_path / "a")
    for change, message in (
        ({"pathology": "UNSURE"}, "pathology 'UNSURE' of P_00001"),
        ({"abnormality id": "one"}, "invalid literal"),
        ({"image view": "XCC"}, "'Mass-Training_P_00001_LEFT_XCC' is no name of a film"),
    ):
        archive = Archive(tmp_path / "b")
        archive.row("Mass", "train", "P_00001_LEFT_CC", **change)
        with pytest.raises(MedsegError, match=rf"train_set.csv: not as the official file \(.*{message}"):
            build_index("cbis_ddsm_mass", archive.finish())
