from __future__ import annotations

import zlib

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medseg.data.dicom import frames, is_dicom, present, read_picture
from medseg.data.images import FileFault
from medseg.transforms.picture import Window


def item(**elements):
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def values_of(path, channels=1, frame=0):
    return read_picture(path, channels, frame).values


def row(*numbers, kind=np.uint16):
    return np.array([numbers], kind)


def test_values_and_their_range_come_as_stored(make):
    picture = read_picture(make(row(0, 1, 4095), BitsStored=12, HighBit=11), 1)
    assert picture.values.tolist() == [[[0, 1, 4095]]]
    assert (picture.low, picture.high, picture.inverted, picture.windows) == (0, 4095, False, ())
    assert picture.values.dtype == np.uint16


def test_signed_12_bits_in_16_are_extended_and_garbage_above_them_is_dropped(make):
    # 0x800 is -2048 of 12 bits; the upper four bits hold something else, such as an overlay
    path = make(row(0x5800, 0xF001, 0x0FFF, 0x77FF), BitsStored=12, HighBit=11, PixelRepresentation=1)
    picture = read_picture(path, 1)
    assert picture.values.tolist() == [[[-2048, 1, -1, 2047]]]
    assert (picture.low, picture.high, picture.values.dtype) == (-2048, 2047, np.int16)


def test_unsigned_garbage_is_dropped(make):
    assert values_of(make(row(0xF001, 0x1FFF), BitsStored=12, HighBit=11)).tolist() == [[[1, 4095]]]


def test_high_bit_says_where_the_stored_bits_lie(make):
    # 12 bits at the upper end of 16: 0x1230 is 0x123, the lowest four are none of it
    path = make(row(0x123F, 0xFFF0), BitsStored=12, HighBit=15)
    assert values_of(path).tolist() == [[[0x123, 0xFFF]]]


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(np.uint8, 0, 255), (np.uint32, 0, 2**32 - 1), (np.int32, -(2**31), 2**31 - 1)]
)
def test_8_and_32_bits(make, kind, low, high):
    picture = read_picture(make(np.array([[low, 7, high]], kind)), 1)
    assert picture.values.tolist() == [[[low, 7, high]]]
    assert (picture.low, picture.high, picture.values.dtype) == (low, high, kind)


def test_bits_packed_in_bytes_cross_frames(make):
    # ten pixels per frame: the second frame begins within the second byte
    bits = np.array([1, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1], np.uint8)
    path = make(
        np.zeros((2, 2, 5), np.uint8),
        BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=np.packbits(bits, bitorder="little").tobytes() + b"\0",
    )  # fmt: skip
    assert values_of(path).ravel().tolist() == bits[:10].tolist()
    assert values_of(path, frame=1).ravel().tolist() == bits[10:].tolist()
    assert read_picture(path, 1).high == 1


@pytest.mark.parametrize(
    ("slope", "intercept", "wanted", "kind"),
    [
        (1, -1024, [-1024, -1023, 3071], np.int16),
        (2, 0, [0, 2, 8190], np.uint16),
        (-1, 0, [0, -1, -4095], np.int16),
        (20, -1, [-1, 19, 81899], np.int32),
        (0.5, 1, [1, 1.5, 2048.5], np.float32),
    ],
)
def test_rescale_is_exact_where_it_is_whole(make, slope, intercept, wanted, kind):
    path = make(row(0, 1, 4095), BitsStored=12, HighBit=11, RescaleSlope=slope, RescaleIntercept=intercept)
    picture = read_picture(path, 1)
    assert picture.values.tolist() == [[wanted]]
    assert picture.values.dtype == kind
    assert (picture.low, picture.high) == (min(wanted), max(wanted))


def test_a_slope_of_zero_is_refused(make):
    with pytest.raises(FileFault, match=r"\(0028,1053\) Rescale Slope is 0"):
        read_picture(make(row(1), RescaleSlope=0, RescaleIntercept=0), 1)


def lut(first, entries, bits, count=None):
    made = item(ModalityLUTType="US")
    made.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count or len(entries), first, bits])
    made.add_new("LUTData", "US", entries)
    return made


def test_the_modality_table_comes_before_the_window(make):
    path = make(
        row(0, 10, 11, 12, 99, kind=np.uint8),
        ModalityLUTSequence=[lut(10, [100, 300, 500], 10)],
        RescaleSlope=7,
        WindowCenter=300.5,
        WindowWidth=401,
    )
    picture = read_picture(path, 1)
    # before the first entry the first, behind the last the last
    assert picture.values.tolist() == [[[100, 100, 300, 500, 500]]]
    assert (picture.low, picture.high) == (0, 1023)
    # (100 - 300) / 400 + 0.5 = 0, (300 - 300) / 400 + 0.5 = 0.5, (500 - 300) / 400 + 0.5 = 1
    assert present(picture).tolist() == [[[0, 0, 128, 255, 255]]]


def test_the_modality_table_of_fluoroscopy_is_not_for_display(make):
    path = make(
        row(1, kind=np.uint8),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.12.1",
        ModalityLUTSequence=[lut(0, [9, 8], 8)],
    )
    assert values_of(path).tolist() == [[[1]]]


def test_a_table_of_signed_values_begins_below_zero(make):
    path = make(
        row(-2, -1, 0, 5, kind=np.int16),
        VOILUTSequence=[lut(-2, [0, 100, 255], 8)],
    )
    picture = read_picture(path, 1)
    first, entries, top = picture.lut[0]
    assert (first, entries.tolist(), top) == (-2, [0, 100, 255], 255)
    assert present(picture).tolist() == [[[0, 100, 255, 255]]]


def test_tables_of_bytes_are_read_packed_or_padded(make):
    for data in (b"\x01\x02\x03\x04", b"\x01\0\x02\0\x03\0\x04\0"):
        path = make(row(0, 1, 2, 3, kind=np.uint8))
        ds = dcmread(path)
        ds.VOILUTSequence = [item(LUTDescriptor=[4, 0, 8])]
        ds.VOILUTSequence[0].add_new("LUTData", "OW", data)
        ds.save_as(path)
        assert read_picture(path, 1).lut[0][1].tolist() == [1, 2, 3, 4]


def test_entries_with_more_bits_than_declared_widen_the_range(make):
    path = make(row(0, kind=np.uint8), VOILUTSequence=[lut(0, [0, 4095], 8)])
    assert read_picture(path, 1).lut[0][2] == 4095


def test_a_table_that_is_cut_short_is_refused(make):
    path = make(row(0, kind=np.uint8), VOILUTSequence=[lut(0, [0, 4095], 16, count=9)])
    with pytest.raises(FileFault, match=r"\(0028,3006\) LUT Data has 4 bytes for 9 entries of 16 bits"):
        read_picture(path, 1)


def test_several_windows_with_their_words_and_function(make):
    path = make(
        row(0),
        WindowCenter=[40, 500],
        WindowWidth=[400, 2000],
        WindowCenterWidthExplanation=["SOFT", "BONE"],
        VOILUTFunction="LINEAR_EXACT",
    )
    wanted = (Window(40, 400, "SOFT", "LINEAR_EXACT"), Window(500, 2000, "BONE", "LINEAR_EXACT"))
    assert read_picture(path, 1).windows == wanted


def test_centres_without_widths_are_refused(make):
    with pytest.raises(
        FileFault, match=r"\(0028,1050\) Window Center has 2 values, \(0028,1051\) Window Width 1"
    ):
        read_picture(make(row(0), WindowCenter=[40, 500], WindowWidth=400), 1)


@pytest.mark.parametrize(
    ("elements", "inverted"),
    [
        ({}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "IDENTITY"}, False),
    ],
)
def test_which_pictures_are_inverted(make, elements, inverted):
    assert read_picture(make(row(0), **elements), 1).inverted is inverted


def enhanced(shared, per_frame):
    groups = [item(**{name: [item(**group)] for name, group in one.items()}) for one in (shared, *per_frame)]
    return {"SharedFunctionalGroupsSequence": groups[:1], "PerFrameFunctionalGroupsSequence": groups[1:]}


def test_frames_have_their_own_windows_and_rescale(make):
    groups = enhanced(
        {"PixelValueTransformationSequence": {"RescaleSlope": 3, "RescaleIntercept": 0, "RescaleType": "US"}},
        [
            {"FrameVOILUTSequence": {"WindowCenter": 5, "WindowWidth": 11}},
            {
                "FrameVOILUTSequence": {"WindowCenter": 50, "WindowWidth": 101, "VOILUTFunction": "SIGMOID"},
                "PixelValueTransformationSequence": {
                    "RescaleSlope": 1,
                    "RescaleIntercept": -10,
                    "RescaleType": "HU",
                },
            },
        ],
    )
    # the elements of the file itself give way
    path = make(
        np.array([[[1, 2]], [[3, 4]]], np.uint16),
        WindowCenter=1,
        WindowWidth=2,
        RescaleSlope=9,
        RescaleIntercept=9,
        **groups,
    )
    first, second = read_picture(path, 1), read_picture(path, 1, frame=1)
    assert frames(path) == 2
    assert first.values.tolist() == [[[3, 6]]]
    assert second.values.tolist() == [[[-7, -6]]]
    assert first.windows == (Window(5, 11),)
    assert second.windows == (Window(50, 101, "", "SIGMOID"),)


def test_a_frame_that_is_not_there_is_refused(make):
    path = make(np.zeros((2, 1, 2), np.uint8))
    with pytest.raises(FileFault, match="there is no frame 2, the file has 2; give a frame from 0 to 1"):
        read_picture(path, 1, frame=2)
    with pytest.raises(FileFault, match="there is no frame -1"):
        read_picture(path, 1, frame=-1)


COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_in_pixels_and_in_planes(make, planar):
    stored = COLOURS.transpose(2, 0, 1) if planar else COLOURS
    path = make(COLOURS, PlanarConfiguration=planar, PixelData=stored.tobytes())
    assert np.array_equal(values_of(path, 3), COLOURS.transpose(2, 0, 1))
    # ITU-R BT.601 luma: 0.299, 0.587 and 0.114 of 255
    assert values_of(path, 1).tolist() == [[[76, 150, 29, 9]]]


def test_grey_repeats_into_three_channels(make):
    assert values_of(make(row(1, 2)), 3).tolist() == [[[1, 2]]] * 3


def test_ybr_full_becomes_rgb(make):
    # PS3.3 C.7.6.3.1.2: pure red is Y 76, Cb 85, Cr 255; grey has 128 for both
    path = make(np.array([[[76, 85, 255], [200, 128, 128]]], np.uint8), PhotometricInterpretation="YBR_FULL")
    found = values_of(path, 3).transpose(1, 2, 0)
    assert abs(found[0, 0].astype(int) - [255, 0, 0]).max() <= 1
    assert found[0, 1].tolist() == [200, 200, 200]


def test_ybr_422_shares_its_colour_between_two_pixels(make):
    # stored Y1 Y2 Cb Cr
    path = make(
        COLOURS[:, :2], PhotometricInterpretation="YBR_FULL_422", PixelData=bytes([50, 200, 128, 128])
    )
    assert values_of(path, 3)[:, 0].T.tolist() == [[50, 50, 50], [200, 200, 200]]
    whole = make(COLOURS[:, :2], PhotometricInterpretation="YBR_FULL_422")
    with pytest.raises(FileFault, match="YBR_FULL_422, the pixel data is not subsampled"):
        read_picture(whole, 3)


@pytest.mark.parametrize(("bits", "kind", "high"), [(8, np.uint8, 255), (16, np.uint16, 65535)])
def test_palette_colours_are_looked_up(make, bits, kind, high):
    top = 2**bits - 1
    tables = {"Red": [top, 0, 0], "Green": [0, top, 0], "Blue": [0, 0, 7]}
    elements = {}
    for name, entries in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [3, 1, bits]
        data = np.array(entries, kind).tobytes()
        elements[f"{name}PaletteColorLookupTableData"] = data + b"\0" * (len(data) % 2)
    path = make(row(0, 1, 2, 3, 9, kind=np.uint8), PhotometricInterpretation="PALETTE COLOR", **elements)
    picture = read_picture(path, 3)
    wanted = [[top, 0, 0], [top, 0, 0], [0, top, 0], [0, 0, 7], [0, 0, 7]]
    assert picture.values.transpose(1, 2, 0)[0].tolist() == wanted
    assert (picture.values.dtype, picture.high) == (kind, high)


def test_palette_in_segments(make):
    # PS3.3 C.7.9.2: discrete segment (0) of 2 entries, then linear segment (1) over 2 entries up to 30
    segments = np.array([0, 2, 5, 10, 1, 2, 30], "<u2").tobytes()
    elements = {}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = segments
    path = make(row(0, 1, 2, 3, kind=np.uint8), PhotometricInterpretation="PALETTE COLOR", **elements)
    assert values_of(path, 3)[0].tolist() == [[5, 10, 20, 30]]


def test_a_palette_that_is_missing_is_named(make):
    with pytest.raises(FileFault, match="Red Palette Color Lookup Table Data is missing"):
        read_picture(make(row(0, kind=np.uint8), PhotometricInterpretation="PALETTE COLOR"), 3)


def test_colour_of_more_than_16_bits_keeps_the_upper_16(make):
    path = make(np.array([[[2**32 - 1, 2**31, 0]]], np.uint32))
    picture = read_picture(path, 3)
    assert picture.values.ravel().tolist() == [65535, 32768, 0]
    assert present(picture).ravel().tolist() == [255, 128, 0]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_plain_encoding_gives_the_same(tmp_path, syntax, build):
    values = np.arange(-6, 6, dtype=np.int16).reshape(3, 4)
    ds = build(values, WindowCenter=1, WindowWidth=5)
    ds.VOILUTSequence = [lut(-1, [3, 60000], 16)]
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = values.astype(">i2").tobytes()
    ds.save_as(tmp_path / "a", enforce_file_format=True)
    picture = read_picture(tmp_path / "a", 1)
    assert picture.values.tolist() == [values.tolist()]
    assert picture.lut[0][:2] == (-1, pytest.approx([3, 60000]))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
def test_lossless_compression_gives_the_same(tmp_path, syntax, kind, build):
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    values = np.random.default_rng(0).integers(0, 200, (64, 65)).astype(kind) - (kind == np.int16) * 100
    ds = build(values.astype(kind))
    ds.compress(syntax)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.array_equal(values_of(tmp_path / "a.dcm")[0], values)


def test_a_file_without_preamble_is_known_by_its_first_element(tmp_path, make):
    plain = make(row(5)).read_bytes()
    start = plain.index(b"\x08\x00\x16\x00UI")
    (tmp_path / "b").write_bytes(plain[start:])
    assert is_dicom(tmp_path / "b")
    assert values_of(tmp_path / "b").tolist() == [[[5]]]


@pytest.mark.parametrize(
    "content", [b"", b"\x08\0", b"\x89PNG\r\n\x1a\n" * 20, b"x" * 200, b"\x08\0\x05\0" * 9]
)
def test_other_files_are_no_dicom(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    assert not is_dicom(tmp_path / "a.dcm")
    with pytest.raises(FileFault, match="not a DICOM file"):
        read_picture(tmp_path / "a.dcm", 1)
    assert not is_dicom(tmp_path / "none")
    assert not is_dicom(tmp_path)


def test_float_pixels(make):
    path = make(row(0, 0), BitsAllocated=32)
    ds = dcmread(path)
    del ds.PixelData, ds.PixelRepresentation, ds.BitsStored, ds.HighBit
    ds.add_new("FloatPixelData", "OF", np.array([0.25, -3], "<f4").tobytes())
    ds.save_as(path)
    picture = read_picture(path, 1)
    assert picture.values.tolist() == [[[0.25, -3]]]
    assert (picture.values.dtype, picture.low, picture.high) == (np.float32, -3, 0.25)
    ds.FloatPixelData = np.array([np.nan, 1], "<f4").tobytes()
    ds.save_as(path)
    with pytest.raises(FileFault, match="not finite"):
        read_picture(path, 1)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"Rows": 0}, r"\(0028,0010\) Rows is 0"),
        ({"BitsStored": 17}, r"\(0028,0101\) Bits Stored is 17"),
        ({"BitsAllocated": 12}, r"\(0028,0100\) Bits Allocated is 12"),
        ({"HighBit": 3}, r"\(0028,0102\) High Bit is 3"),
        ({"SamplesPerPixel": 3}, r"\(0028,0002\) Samples per Pixel is 3"),
        ({"PhotometricInterpretation": "CMYK"}, r"\(0028,0004\) Photometric Interpretation is CMYK"),
        ({"NumberOfFrames": 5}, "cut short: its pixel data has 4 bytes, 5 frames need 20"),
        ({"NumberOfFrames": 2**31 - 1}, "cut short"),
        ({"Rows": 65535, "Columns": 65535}, "too large"),
        ({"Rows": 9000, "Columns": 9000}, "cut short"),
        ({"PixelData": b""}, "cut short"),
        ({"WindowCenter": "1e400", "WindowWidth": "2"}, r"\(0028,1050\) Window Center is not finite"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_allocated(make, elements, message):
    with pytest.raises(FileFault, match=message):
        read_picture(make(row(1, 2), **elements), 1)


def test_missing_elements_are_named(make):
    path = make(row(1, 2))
    ds = dcmread(path)
    del ds.BitsAllocated
    ds.save_as(path)
    with pytest.raises(FileFault, match=r"\(0028,0100\) Bits Allocated is missing"):
        read_picture(path, 1)
    del ds.PixelData
    ds.save_as(path)
    with pytest.raises(FileFault, match="holds no pixel data"):
        read_picture(path, 1)


def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path, build):
    # the SIZ segment claims 2**31 columns; a decoder would allocate them
    siz = (
        b"\xff\x4f\xff\x51"
        + (41).to_bytes(2, "big")
        + b"\0\0"
        + (2**31).to_bytes(4, "big")
        + (1).to_bytes(4, "big")
    )
    siz += bytes(8) + (2**31).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(8) + b"\0\x01\x0f\x01\x01"
    ds = build(row(1, 2), PixelData=encapsulate([siz]))
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(
        FileFault, match="frame 0 is 2147483648x1 pixels of 1 samples, the header says 2x1 of 1"
    ):
        read_picture(tmp_path / "a.dcm", 1)


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch, build):
    monkeypatch.setattr("medseg.data.dicom.header.MAX_INFLATED", 1 << 20)
    ds = build(row(1, 2))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    content = (tmp_path / "a.dcm").read_bytes()
    start = 132 + 12 + dcmread(tmp_path / "a.dcm").file_meta.FileMetaInformationGroupLength
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    (tmp_path / "a.dcm").write_bytes(content[:start] + packer.compress(bytes(2 << 20)) + packer.flush())
    with pytest.raises(FileFault, match="inflates to more than 1 MiB"):
        read_picture(tmp_path / "a.dcm", 1)


def test_a_decoder_that_is_not_installed_is_named(tmp_path, monkeypatch, build):
    pytest.importorskip("openjpeg")
    ds = build(np.zeros((64, 64), np.uint16))
    ds.compress(JPEG2000Lossless)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(
        FileFault, match=r"JPEG 2000 .*not installed; install it: pip install medseg\[dicom\]"
    ) as fault:
        read_picture(tmp_path / "a.dcm", 1)
    assert "\n" not in str(fault.value)


def test_a_syntax_that_nothing_decodes_is_named(tmp_path, build):
    ds = build(row(1, 2), PixelData=encapsulate([b"12"]))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    ds["PixelData"].is_undefined_length = True
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(FileFault, match=r"MPEG2 Main Profile .* is not supported; save it uncompressed"):
        read_picture(tmp_path / "a.dcm", 1)


def test_jpeg_ls_near_lossless_stays_near(tmp_path):
    pytest.importorskip("libjpeg")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)
    plain = get_testdata_file("MR_small.dcm", download=False)
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLSLossless
    from pathlib import Path

    assert np.array_equal(values_of(Path(path)), values_of(Path(plain)))
