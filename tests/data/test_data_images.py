from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from medseg.data.images import FileFault, read_image, read_mask, read_picture

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800


def disc(size: int = 64) -> Image.Image:
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).ellipse((10, 12, 40, 50), fill=255)
    return image


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "tiff", "ppm"])
def test_colour_is_read_as_channels_first(tmp_path, ending):
    Image.fromarray(RGB).save(tmp_path / f"a.{ending}")
    assert np.array_equal(read_image(tmp_path / f"a.{ending}", 3), RGB.transpose(2, 0, 1))


def test_a_picture_knows_the_range_of_its_type(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.pgm")
    Image.fromarray(DEEP).save(tmp_path / "b.png")
    for name, high, pixels in (("a.pgm", 255, GREY), ("b.png", 65535, DEEP)):
        picture = read_picture(tmp_path / name, 1)
        assert (picture.low, picture.high, picture.inverted, picture.windows) == (0, high, False, ())
        assert np.array_equal(picture.values[0], pixels)


def test_grey_repeats_into_three_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", 1), GREY[None])
    assert np.array_equal(read_image(tmp_path / "a.png", 3), np.stack([GREY] * 3))


def test_colour_becomes_luma_and_equal_channels_stay(tmp_path):
    pixels = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    # 0.299, 0.587 and 0.114 of 255
    assert read_image(tmp_path / "a.png", 1).tolist() == [[[76, 150, 29, 9]]]
    Image.fromarray(np.stack([GREY] * 3, -1)).save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png", 1)[0], GREY)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_alpha_is_dropped_and_palettes_are_looked_up(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(7)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    wanted = np.asarray(image.convert("L" if mode in ("1", "LA") else "RGB"))
    wanted = wanted.transpose(2, 0, 1) if wanted.ndim == 3 else np.stack([wanted] * 3)
    found = read_image(path, 3)
    assert found.dtype == np.uint8
    if mode != "CMYK":
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, ending):
    if ending == "pgm":  # Pillow before 11 writes none of 16 bits
        head = f"P5 {DEEP.shape[1]} {DEEP.shape[0]} 65535\n".encode()
        (tmp_path / "a.pgm").write_bytes(head + DEEP.astype(">u2").tobytes())
    else:
        Image.fromarray(DEEP).save(tmp_path / f"a.{ending}")
    found = read_image(tmp_path / f"a.{ending}", 1)
    assert found.dtype == np.uint16
    assert np.array_equal(found[0], DEEP)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", None])
def test_tif_of_any_lossless_compression(tmp_path, compression):
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif", 3), RGB.transpose(2, 0, 1))


def test_tif_planes_and_inverted_grey(tmp_path):
    planes = RGB.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "a.tif", 3), planes)
    tifffile.imwrite(tmp_path / "b.tif", GREY, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "b.tif", 1)[0], 255 - GREY)


def test_the_orientation_tag_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", 3).shape == (3, 5, 7)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.95])
def test_a_file_cut_short_is_never_half_read(tmp_path, ending, kept):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(FileFault, match=f"a.{ending}: (cannot be read|not an image)"):
        read_image(path, 3)


def test_unreadable_kinds_say_why(tmp_path):
    with pytest.raises(FileFault, match=r"none.png: no such file"):
        read_image(tmp_path / "none.png", 3)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(FileFault, match=r"text.png: not an image that can be read; replace it"):
        read_image(tmp_path / "text.png", 3)
    Image.fromarray(GREY).save(tmp_path / "a.gif", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    with pytest.raises(FileFault, match="holds 2 frames"):
        read_image(tmp_path / "a.gif", 3)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(FileFault, match="holds 4 pages"):
        read_image(tmp_path / "a.tif", 3)
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(FileFault, match="float32 is not supported"):
        read_image(tmp_path / "f.tif", 1)


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ((0, 1), np.uint8),
        ((0, 255), np.uint8),
        ((False, True), bool),
        ((0, 1), np.uint16),
        ((0, 65535), np.uint16),
    ],
)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_masks_of_any_coding(tmp_path, values, type_, ending):
    pixels = np.array([[values[0], values[1]], [values[1], values[0]]], type_)
    Image.fromarray(pixels).save(tmp_path / f"m.{ending}")
    found = read_mask([tmp_path / f"m.{ending}"])
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1], [1, 0]]


def test_a_full_mask_is_full(tmp_path):
    Image.fromarray(np.full((3, 3), 255, np.uint8)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"]).all()


def test_rgb_masks_need_equal_channels(tmp_path):
    Image.fromarray(np.full((3, 3, 3), 255, np.uint8)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"]).all()
    Image.fromarray(np.full((3, 3, 3), (255, 0, 0), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(FileFault, match="the mask is coloured"):
        read_mask([tmp_path / "c.png"])


def test_grey_masks_are_cut_at_half_of_full_scale(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"], grey=True).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(
        FileFault, match=r"unexpected mask values 0, 127, 128, 255, wanted 0 and 255.*--grey-masks"
    ):
        read_mask([tmp_path / "m.png"])
    Image.fromarray(np.array([[0, 32767, 32768, 65535]], np.uint16)).save(tmp_path / "d.png")
    assert read_mask([tmp_path / "d.png"], grey=True).tolist() == [[0, 0, 1, 1]]


def test_label_maps_are_refused_with_their_values(tmp_path):
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(FileFault, match="unexpected mask values 0, 1, 2"):
        read_mask([tmp_path / "m.png"])
    Image.fromarray(np.arange(100, dtype=np.uint8)[None]).save(tmp_path / "n.png")
    with pytest.raises(FileFault, match=r"7 \.\.\. 99 \(100 values\)"):
        read_mask([tmp_path / "n.png"])


@pytest.mark.parametrize("quality", [75, 95])
def test_jpeg_masks_may_ripple(tmp_path, quality):
    disc().save(tmp_path / "m.jpg", quality=quality)
    assert np.array_equal(read_mask([tmp_path / "m.jpg"]), np.asarray(disc()) // 255)


def test_a_jpeg_with_real_grey_is_refused(tmp_path):
    Image.fromarray(np.repeat(np.array([[0, 128, 255]], np.uint8), 16, 1).repeat(16, 0)).save(
        tmp_path / "m.jpg"
    )
    with pytest.raises(FileFault, match="unexpected mask values"):
        read_mask([tmp_path / "m.jpg"])


def test_one_value_of_a_label_map_can_be_the_lesion(tmp_path):
    Image.fromarray(np.array([[0, 1, 2, 2]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"], value=2).tolist() == [[0, 0, 1, 1]]
    assert read_mask([tmp_path / "m.png"], value=1).tolist() == [[0, 1, 0, 0]]


def test_masks_are_fitted_where_their_proportions_agree(tmp_path):
    Image.fromarray(np.array([[0, 255], [0, 0]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"], fit=(4, 4)).tolist() == [[0, 0, 1, 1]] * 2 + [[0, 0, 0, 0]] * 2
    assert read_mask([tmp_path / "m.png"], fit=(100, 101)).shape == (100, 101)
    with pytest.raises(
        FileFault, match=r"mask is 2x2, image is 103x100 .*: their proportions differ by 3.0%"
    ):
        read_mask([tmp_path / "m.png"], fit=(100, 103))


def test_several_masks_are_united(tmp_path):
    for name, row in (("a", [0, 255, 0]), ("b", [0, 0, 255])):
        Image.fromarray(np.array([row], np.uint8)).save(tmp_path / f"{name}.png")
    assert read_mask([tmp_path / "a.png", tmp_path / "b.png"]).tolist() == [[0, 1, 1]]
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(FileFault, match=r"c.png: is 3x2, a.png is 3x1"):
        read_mask([tmp_path / "a.png", tmp_path / "c.png"])


def test_empty_masks_must_be_expected(tmp_path):
    Image.new("1", (4, 4)).save(tmp_path / "m.png")
    assert read_mask([tmp_path / "m.png"], empty_ok=True).sum() == 0
    with pytest.raises(FileFault, match="the mask is empty; allow empty masks"):
        read_mask([tmp_path / "m.png"])


def test_cvc_tif_frames_equal_their_png_twins(shared_data):
    tif, png = (
        shared_data / "original" / name / "CVC-ClinicDB" for name in ("cvc-clinicdb-tif", "cvc-clinicdb")
    )
    for frame in ("1", "26", "51"):
        twins = [
            read_image(folder / "Original" / f"{frame}.{end}", 3)
            for folder, end in ((tif, "tif"), (png, "png"))
        ]
        assert np.array_equal(*twins)
        masks = [folder / "Ground Truth" / f"{frame}.{end}" for folder, end in ((tif, "tif"), (png, "png"))]
        assert np.array_equal(*(read_mask([mask], grey=True) for mask in masks))
