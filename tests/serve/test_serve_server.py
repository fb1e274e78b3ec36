"""The port and a real process on it: one line when it is taken, an end in order, nothing left."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pydicom.data
import pytest

from medseg.errors import MedsegError
from medseg.serve.server import address, bind, is_loopback, names_of

DICOM = Path(pydicom.data.__file__).parent / "test_files"
MEDSEG = "import sys; from medseg.cli.serve import serve; serve(sys.argv[1:])"


@pytest.fixture
def start(served_bundle, tmp_path) -> Iterator:
    """Starts servers on free ports, with a folder for temporary files of their own."""
    begun: list[subprocess.Popen] = []

    def server(*options: str) -> tuple[subprocess.Popen, str]:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", MEDSEG, str(served_bundle.root), "--port", "0", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("discs__unet__dice_bce on http://"), process.stderr.read()
        return process, line.split()[2]

    yield server
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_it_ends_in_order_and_leaves_nothing(start, tmp_path, make_png):
    process, url = start("--device", "cpu")
    told = httpx.post(f"{url}api/predict", files={"file": ("Doe.png", make_png())}).json()
    assert told["frames"][0]["height"] == 20
    # a header that readers complain of, with what they quote
    header = (
        (DICOM / "MR_small.dcm")
        .read_bytes()
        .replace(b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.Doe8.5.1.4.1.1.4\0\0")
    )
    complaint = httpx.post(f"{url}api/predict", files={"file": header}).json()
    assert "SOP Class UID" in complaint["notes"][0]
    assert len(list(tmp_path.glob("medseg-serve-*"))) == 1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert (out, err) == ("ended; nothing was kept\n", "")
    assert not list(tmp_path.glob("medseg-serve-*"))


def test_it_ends_amid_a_prediction(start, tmp_path):
    # more slices than are predicted in the time that it takes to look
    content = nibabel.Nifti1Image(np.full((128, 128, 900), 99, np.uint8), np.eye(4)).to_bytes()
    process, url = start()
    replies: list[httpx.Response] = []
    sender = threading.Thread(
        target=lambda: replies.append(
            httpx.post(f"{url}api/predict", files={"file": gzip.compress(content, 1)}, timeout=100)
        )
    )
    sender.start()
    while not list(tmp_path.rglob("image.nii")):
        assert sender.is_alive()
        time.sleep(0.02)
    # the end of the terminal, which is passed on as SIGTERM
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=100)
    sender.join()
    assert (process.returncode, out, err) == (0, "ended; nothing was kept\n", "")
    assert (replies[0].status_code, replies[0].json()) == (
        503,
        {"error": "the server is ending; start it again"},
    )
    assert not list(tmp_path.glob("medseg-serve-*"))


def test_a_killed_server_leaves_no_image(start, tmp_path, make_png):
    process, url = start()
    httpx.post(f"{url}api/predict", files={"file": make_png()})
    process.kill()
    process.wait()
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["lock"]


def test_a_taken_port_is_one_line():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(MedsegError, match=f"--port {port} of 127.0.0.1 is taken; give another one, or 0"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_here_is_one_line(host):
    with pytest.raises(MedsegError, match=f"--host {host}: .*try 127.0.0.1"):
        bind(host, 0)


def test_addresses():
    with bind("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert address("127.0.0.1", place) == f"http://127.0.0.1:{port}/"
        assert address("::1", place) == f"http://[::1]:{port}/"
        assert address("0.0.0.0", place) == f"http://{socket.gethostname()}:{port}/"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("localhost.example", False),
    ],
)
def test_what_only_this_machine_reaches(host, loopback):
    assert is_loopback(host) is loopback
    assert (names_of(host) == ()) is loopback


def test_the_folder_of_the_package_has_the_page():
    from medseg.serve.app import PAGES, STATIC

    assert {name for name, _ in STATIC.values()} == {path.name for path in Path(PAGES).iterdir()}
