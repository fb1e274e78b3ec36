"""The page in a real browser: a file in by choice or drop, what is seen and told, downloads, errors, keys."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import nibabel
import numpy as np
import pydicom.data
import pytest
from PIL import Image


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tools = _module(Path(__file__).parents[1] / "browser.py")
pytestmark = pytest.mark.skipif(
    tools.find_browser() is None, reason=f"none of {', '.join(tools.NAMES)} is installed"
)
DICOM = Path(pydicom.data.__file__).parent / "test_files"
MEDSEG = "import sys; from medseg.cli.serve import serve; serve(sys.argv[1:])"
#: seconds until what should come is given up
PATIENCE = 60
ROWS = "[...document.querySelectorAll('#measures tr')].map(r => [...r.children].map(c => c.textContent))"
SEEN = """(async () => {
    const images = [...document.querySelectorAll('.picture img')];
    await Promise.all(images.map(image => image.decode()));
    return images.map(image => {
        const box = image.getBoundingClientRect();
        return [image.naturalWidth, image.naturalHeight, Math.round(box.width), Math.round(box.height),
                Math.round(box.left), Math.round(box.top)];
    });
})()"""


@pytest.fixture(scope="module")
def url(served_bundle, tmp_path_factory) -> Iterator[str]:
    with serving(served_bundle.root, tmp_path_factory.mktemp("temporary")) as address:
        yield address


@contextmanager
def serving(bundle: Path, folder: Path) -> Iterator[str]:
    """The command on a bundle, and its address; it leaves no file."""
    process = subprocess.Popen(
        [sys.executable, "-c", MEDSEG, str(bundle), "--port", "0", "--max-megabytes", "5"],
        env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
        left = [path.name for path in folder.rglob("*") if path.is_file()]
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert left == ["lock"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    browser = tools.Browser(tools.find_browser(), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(opened, url) -> Iterator:
    """The page, just loaded; whatever it complained of fails the test."""
    opened.events.clear()
    opened.show(url, 1280, 900)
    until(opened, "document.getElementById('name').textContent !== 'medseg'")
    yield opened
    assert opened.happened("Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
    asked = {event["request"]["url"] for event in opened.happened("Network.requestWillBeSent")}
    assert {one for one in asked if not one.startswith((url, "data:"))} == set()


@pytest.fixture
def quiet(browser) -> Iterator:
    """A page of which no request fails either."""
    yield browser
    assert browser.happened("Log.entryAdded") == []


def until(browser, condition: str) -> None:
    """Wait until a condition of the page holds."""
    assert browser.ask(
        f"""new Promise(done => {{
            const begun = Date.now();
            (function look() {{
                if ({condition}) {{ done(true); }}
                else if (Date.now() - begun > {PATIENCE * 1000}) {{ done(false); }}
                else {{ setTimeout(look, 30); }}
            }})();
        }})"""
    ), f"never: {condition}; state: {browser.ask('document.body.innerText')[:600]}"


def choose(browser, path: Path) -> None:
    """Choose a file as a user does in the dialogue."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def told(browser) -> dict[str, Any]:
    """What the page holds, once it has an answer."""
    until(browser, "result && !document.getElementById('result').hidden")
    return browser.ask("result")


def press(browser, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)


@pytest.fixture
def ramp(tmp_path) -> Path:
    """A picture that is lesion on one side, for the network of the tests."""
    path = tmp_path / "a ramp (1).png"
    Image.fromarray(np.tile(np.linspace(0, 255, 300).astype(np.uint8), (200, 1))).save(path)
    return path


@pytest.fixture
def volume(tmp_path) -> Path:
    """Five slices of growing lesions, the largest in the fourth."""
    values = np.zeros((40, 30, 5), np.uint8)
    for number, width in enumerate((0, 5, 10, 30, 15)):
        values[:width, :, number] = 255
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 3, 4, 1])), path)
    return path


def test_the_page_says_whose_it_is(quiet):
    text = quiet.ask("document.body.innerText")
    assert "discs__unet__dice_bce" in text
    assert "Finds: lesion." in text
    assert "32 \N{MULTIPLICATION SIGN} 32 pixels" in text
    assert "Research use only" in text
    assert "up to 5 MB" in text
    assert not quiet.ask("!document.getElementById('result').hidden")


def test_a_chosen_image_is_seen_with_its_numbers(quiet, url, ramp):
    choose(quiet, ramp)
    answer = told(quiet)
    (measures,) = answer["frames"][0]["measures"]
    assert 0 < measures["area_px"] < 60000
    assert quiet.ask(ROWS) == [
        ["Area (pixels)", str(measures["area_px"])],
        ["Area (mm²)", "\N{EN DASH}"],
        ["Lesions", str(measures["lesions"])],
        ["Mean probability", f"{measures['mean_probability']:.3f}"],
        ["Uncertainty (bits)", f"{measures['uncertainty']:.3f}"],
    ]
    heads = quiet.ask("[...document.querySelectorAll('#columns > *')].map(head => head.textContent)")
    assert heads == ["", answer["labels"][0]["name"]]
    # the same as another client is told
    other = httpx.post(f"{url}api/predict", files={"file": ramp.read_bytes()}).json()
    assert other["frames"] == answer["frames"]
    picture, layer = quiet.ask(SEEN)
    assert picture[:2] == layer[:2] == [300, 200]
    # the layer lies on the picture, which is shown in its proportions
    assert picture[2:] == layer[2:]
    assert picture[2] / picture[3] == pytest.approx(1.5, rel=0.01)
    assert quiet.ask("document.getElementById('title').textContent") == "a ramp (1).png"
    assert "a lesion was found" in quiet.ask("document.getElementById('state').textContent")
    assert "does not say how large" in quiet.ask("document.getElementById('spacing').textContent")


def test_a_real_image(quiet, shared_data):
    path = sorted((shared_data / "original" / "busi").rglob("benign (*).png"))[0]
    choose(quiet, path)
    frame = told(quiet)["frames"][0]
    with Image.open(path) as image:
        assert (frame["width"], frame["height"]) == image.size
        assert quiet.ask(SEEN)[0][:2] == list(image.size)


def test_a_dropped_file(quiet, ramp):
    spot = {"x": 600, "y": 500}
    data = {"items": [], "files": [str(ramp)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        quiet.call("Input.dispatchDragEvent", type=kind, data=data, **spot)
    until(quiet, "document.body.classList.contains('over')")
    quiet.call("Input.dispatchDragEvent", type="drop", data=data, **spot)
    assert told(quiet)["frames"][0]["width"] == 300
    assert not quiet.ask("document.body.classList.contains('over')")
    # the browser has not gone to the file
    assert quiet.ask("location.pathname") == "/"


def drop(browser, *files: tuple[str, bytes]) -> None:
    """A drop that a script makes."""
    sent = json.dumps([[name, base64.b64encode(content).decode()] for name, content in files])
    browser.ask(
        f"""(() => {{
            const data = new DataTransfer();
            for (const [name, text] of {sent}) {{
                data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
            }}
            document.body.dispatchEvent(
                new DragEvent('drop', {{bubbles: true, cancelable: true, dataTransfer: data}}));
        }})()"""
    )


def fault(browser) -> str:
    until(browser, "!document.getElementById('fault').hidden")
    return browser.ask("document.getElementById('fault').textContent")


def test_two_files_are_one_too_many(quiet, ramp):
    drop(quiet, ("a.png", ramp.read_bytes()), ("b.png", ramp.read_bytes()))
    assert fault(quiet) == "one file at a time; 'medseg predict' takes many"


def test_a_file_that_is_too_large_is_not_sent(quiet):
    drop(quiet, ("a.png", bytes(5_000_001)))
    assert fault(quiet) == "the file is larger than 5 MB; --max-megabytes allows more"
    assert not any(
        event["request"]["method"] == "POST" for event in quiet.happened("Network.requestWillBeSent")
    )


def test_a_broken_file_is_told_and_the_next_one_predicted(browser, ramp):
    drop(browser, ("<img src=x onerror=alert(1)>.png", ramp.read_bytes()[:60]))
    assert "replace it" in fault(browser)
    assert browser.ask("document.getElementById('result').hidden")
    drop(browser, ("<img src=x onerror=alert(1)>.png", ramp.read_bytes()))
    assert told(browser)["frames"][0]["width"] == 300
    assert browser.ask("document.getElementById('fault').hidden")
    # a name is text, whatever it holds
    assert browser.ask("document.getElementById('title').textContent") == "<img src=x onerror=alert(1)>.png"
    assert browser.ask("document.querySelectorAll('main img').length") == 2


def download(browser, text: str, folder: Path) -> Path:
    """Click a link, and wait for its file."""
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    links = "[...document.querySelectorAll('#downloads a')]"
    assert browser.ask(f"{links}.filter(a => a.textContent === {json.dumps(text)}).length") == 1
    before = set(folder.iterdir())
    browser.ask(f"{links}.find(a => a.textContent === {json.dumps(text)}).click()")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        new = [path for path in set(folder.iterdir()) - before if path.suffix != ".crdownload"]
        if new and new[0].stat().st_size:
            return new[0]
        browser.ask("new Promise(done => setTimeout(done, 50))")
    raise AssertionError(f"{text} did not come")


def test_downloads_are_named_after_the_image(quiet, ramp, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    choose(quiet, ramp)
    area = told(quiet)["frames"][0]["measures"][0]["area_px"]
    mask = download(quiet, "Mask as PNG", folder)
    assert mask.name == "a ramp (1)_mask.png"
    assert (np.asarray(Image.open(mask)) == 255).sum() == area
    assert download(quiet, "Overlay as PNG", folder).name == "a ramp (1)_overlay.png"
    assert download(quiet, "Probability as PNG", folder).name == "a ramp (1)_probability.png"


def test_dicom_comes_back_as_a_segmentation(quiet, tmp_path):
    import highdicom

    folder = tmp_path / "downloads"
    folder.mkdir()
    choose(quiet, DICOM / "CT_small.dcm")
    frame = told(quiet)["frames"][0]
    seg = highdicom.seg.segread(download(quiet, "Mask as DICOM SEG", folder))
    assert seg.pixel_array.sum() == frame["measures"][0]["area_px"]
    area, square = (row[1] for row in quiet.ask(ROWS)[:2])
    row, column = pydicom.dcmread(DICOM / "CT_small.dcm").PixelSpacing
    assert float(square) == pytest.approx(int(area) * row * column, abs=0.06)
    assert "in the patient" in quiet.ask("document.getElementById('spacing').textContent")


def place(browser) -> str:
    return browser.ask("document.getElementById('place').textContent")


def test_slices_by_slider_and_keys(quiet, volume):
    choose(quiet, volume)
    frames = told(quiet)["frames"]
    areas = [frame["measures"][0]["area_px"] for frame in frames]
    first = int(np.argmax(areas)) + 1
    # it opens where the lesion is largest
    assert place(quiet) == f"{first} of 5"
    for key, wanted in (
        ("PageUp", 1),
        ("ArrowLeft", 1),
        ("ArrowRight", 2),
        ("ArrowDown", 3),
        ("PageDown", 5),
    ):
        press(quiet, key)
        assert place(quiet) == f"{wanted} of 5"
        assert quiet.ask(ROWS)[0] == ["Area (pixels)", str(areas[wanted - 1])]
        seen = quiet.ask(SEEN)[0]
        # size in pixels, and proportions in the patient: columns are 2 mm apart, rows 3 mm
        assert seen[:2] == [40, 30]
        assert seen[2] / seen[3] == pytest.approx(80 / 90, rel=0.01)
    quiet.ask("document.getElementById('slice').focus()")
    press(quiet, "ArrowLeft")
    # once by the slider, not twice
    assert place(quiet) == "4 of 5"
    quiet.ask("document.getElementById('largest').click()")
    assert place(quiet) == f"{first} of 5"
    texts = quiet.ask("[...document.querySelectorAll('#downloads a')].map(a => a.textContent)")
    assert "Mask as NIfTI of all slices" in texts
    assert "Mask as PNG of this slice" in texts
    area, square = (row[1] for row in quiet.ask(ROWS)[:2])
    assert float(square) == pytest.approx(int(area) * 6)


def test_opacity_outline_and_labels(quiet, ramp):
    choose(quiet, ramp)
    number = told(quiet)["id"]

    def switch(name: str, value: str = "") -> None:
        kind = "input" if value else "change"
        change = f"e.value = {value};" if value else "e.checked = !e.checked;"
        quiet.ask(
            f"(() => {{ const e = document.getElementById('{name}'); {change}"
            f" e.dispatchEvent(new Event('{kind}', {{bubbles: true}})); }})()"
        )

    layers = "[...document.querySelectorAll('#layers img')].map(image => image.style.opacity)"
    source = "new URL(document.getElementById('shown').src).pathname"
    assert quiet.ask(layers) == ["0.4"]
    assert quiet.ask(source) == f"/api/results/{number}/overlay.png"
    switch("opacity", "75")
    assert quiet.ask(layers) == ["0.75"]
    switch("outline")
    assert quiet.ask(source) == f"/api/results/{number}/displayed.png"
    switch("outline")
    switch("label-1")
    assert quiet.ask(layers) == []
    assert quiet.ask(source) == f"/api/results/{number}/displayed.png"
    switch("label-1")
    switch("opacity", "0")
    assert quiet.ask(layers) == []
    assert quiet.ask(source) == f"/api/results/{number}/overlay.png"
    assert quiet.ask(SEEN)[0][:2] == [300, 200]


def test_the_server_forgets_with_the_page(quiet, url, ramp):
    choose(quiet, ramp)
    first = told(quiet)["id"]
    address = f"{url}api/results/{first}/mask.png"
    assert httpx.get(address).status_code == 200
    choose(quiet, ramp)
    until(quiet, f"result && result.id !== '{first}'")
    second = quiet.ask("result.id")
    quiet.call("Page.navigate", url="about:blank")
    for number in (first, second):
        end = time.monotonic() + PATIENCE
        while httpx.get(f"{url}api/results/{number}/mask.png").status_code != 404:
            assert time.monotonic() < end
            quiet.ask("new Promise(done => setTimeout(done, 50))")


def test_a_page_of_another_server_is_refused_by_the_browser_and_here(opened, url, ramp, tmp_path):
    """A page elsewhere can neither send a file nor read what the bundle is."""
    page = tmp_path / "evil.html"
    page.write_text("<!DOCTYPE html><title>evil</title>")
    opened.show(page, 800, 600)
    for options in (
        "{}",
        "{method: 'POST', body: new FormData()}",
        "{mode: 'no-cors', method: 'POST', body: 'x'}",
    ):
        answer = opened.ask(f"fetch('{url}api/predict', {options}).then(r => r.type + r.status, e => e.name)")
        assert answer in ("TypeError", "opaque0")


@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (1280, 900)])
def test_nothing_is_wider_than_the_screen(quiet, url, volume, width, height):
    quiet.show(url, width, height)
    until(quiet, "bundle")
    choose(quiet, volume)
    told(quiet)
    quiet.ask(SEEN)
    assert quiet.ask("document.documentElement.scrollWidth <= innerWidth")
    wide = """[...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'))
        .map(e => e.tagName + '.' + e.className)"""
    assert quiet.ask(wide) == []
    quiet.show(url, 1280, 900)


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(quiet, volume):
    choose(quiet, volume)
    told(quiet)
    tree = quiet.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if node.get("role", {}).get("value") in ("button", "slider", "checkbox", "link", "textbox")
        and not node["ignored"]
    ]
    assert len(controls) >= 8
    assert all(name for _, name in controls), controls
    quiet.ask("document.body.focus(); document.activeElement.blur()")
    reached = []
    for _ in range(20):
        press(quiet, "Tab")
        reached.append(quiet.ask("document.activeElement.id || document.activeElement.tagName"))
    for name in ("file", "slice", "largest", "label-1", "opacity", "outline", "A"):
        assert name in reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(quiet, url, volume, scheme):
    quiet.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    choose(quiet, volume)
    told(quiet)
    quiet.ask("working('Predicting'); fail('wrong'); working('again')")
    colours = quiet.ask(
        "[...document.querySelectorAll('p, li, td, th, a, label, legend, caption, h1, h2, h3, button, figcaption')]"
        ".filter(e => e.getClientRects().length).map(e => {"
        " let b = e; while (b && getComputedStyle(b).backgroundColor.endsWith(', 0)')) b = b.parentElement;"
        " return [getComputedStyle(e).color, getComputedStyle(b || document.body).backgroundColor] })"
    )
    pairs = {tuple(pair) for pair in colours}
    assert len(pairs) > 4
    assert min(tools.contrast(*pair) for pair in pairs) >= 4.5
    quiet.call("Emulation.setEmulatedMedia", features=[])


def test_a_page_of_classes(opened, classifier, ramp, volume, tmp_path):
    (tmp_path / "temporary").mkdir()
    with serving(classifier.root, tmp_path / "temporary") as url:
        opened.events.clear()
        opened.show(url, 1280, 900)
        until(opened, "bundle !== null")
        assert "Tells one of: normal, smooth, spiculated." in opened.ask("document.body.innerText")
        choose(opened, ramp)
        (frame,) = told(opened)["frames"]
        shares = [f"{100 * value:.1f} %" for value in frame["probabilities"]]
        names = ["normal", "smooth", "spiculated"]
        rows = [[name, share, ""] for name, share in zip(names, shares, strict=True)]
        assert opened.ask(ROWS) == rows
        best = names[frame["predicted"][0] - 1]
        assert opened.ask("document.querySelector('tr.said').textContent").startswith(best)
        assert opened.ask("document.getElementById('verdict').textContent").startswith(f"{best}, confidence")
        widths = opened.ask(
            "[...document.querySelectorAll('.bar span')].map(b => b.getBoundingClientRect().width)"
        )
        assert np.argmax(widths) == np.argmax(frame["probabilities"])
        picture, layer = opened.ask(SEEN)
        assert picture == layer  # Grad-CAM's, on the picture
        seen = opened.ask("document.body.innerText")
        for word in ("Download", "Outline of the mask", "Largest lesion", "Lesions are"):
            assert word not in seen
        choose(opened, volume)
        until(opened, "result && result.frames.length === 5 && !document.getElementById('result').hidden")
        assert place(opened) == "1 of 5"
        assert "of 5 slices, " in opened.ask("document.getElementById('state').textContent")
        press(opened, "ArrowRight")
        until(opened, "frame === 1")
        share = 100 * opened.ask("result.frames[1].probabilities[0]")
        assert opened.ask(ROWS)[0][1] == f"{share:.1f} %"
        assert opened.happened("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
