"""Published weights: from a hub, a file or a folder, checked and declared; and stages that learn less."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from medseg import models
from medseg.errors import MedsegError
from medseg.models._backbones import pyramid
from medseg.models._pretrained import records, trained_on

NAME = "pvt_v2_b0.in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """A whole classifier, as the hub has its weights."""
    torch.manual_seed(7)
    return timm.create_model("pvt_v2_b0").eval()


@pytest.fixture(scope="module")
def folder(published: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of weights."""
    path = tmp_path_factory.mktemp("weights")
    save_file(published.state_dict(), path / f"{NAME}.safetensors")
    return path


def maps(network: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return network.eval()(images)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_local_file_gives_the_published_features(published: nn.Module, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"anything.{ending}"
    state = published.state_dict()
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    network = pyramid(NAME, 3, str(path), model="emcad")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = published.forward_features(images)
    torch.testing.assert_close(maps(network, images)[-1], last, rtol=0, atol=0)
    (record,) = records(network)
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["source"] == f"file {path.name}", "no folder: it may name a person or a machine"
    assert (record["weights"], record["trained_on"]) == (NAME, "undeclared")


def test_a_folder_holds_files_by_the_weights_names(folder: Path) -> None:
    one, other = (pyramid(NAME, 3, str(p), model="x") for p in (folder, folder / f"{NAME}.safetensors"))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_one_channel_gets_the_sum_of_the_colour_filters(folder: Path) -> None:
    grey, colour = (pyramid(NAME, channels, str(folder), model="x") for channels in (1, 3))
    image = torch.randn(1, 1, 64, 64)
    for a, b in zip(maps(grey, image), maps(colour, image.expand(1, 3, 64, 64)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_without_pretrained_weights_nothing_is_declared() -> None:
    assert records(pyramid(NAME, 3, model="x")) == []


def changed(state: dict[str, Tensor], how: str) -> dict[str, Tensor]:
    key = "stages.0.blocks.0.norm1.weight"
    if how == "lacks":
        return {k: v for k, v in state.items() if k != key}
    if how == "shape":
        return {**state, key: state[key][:-1].clone()}
    return {**state, "stages.0.blocks.7.norm1.weight": state[key].clone()}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("lacks", r"emcad: w.pth does not hold pvt_v2_b0.in1k: it lacks stages_0.blocks.0.norm1.weight$"),
        ("shape", "it has another shape of stages_0.blocks.0.norm1.weight$"),
        ("more", "it has, but the backbone not, stages_0.blocks.7.norm1.weight$"),
    ],
)
def test_a_file_of_another_network_is_refused(
    published: nn.Module, tmp_path: Path, how: str, message: str
) -> None:
    torch.save(changed(published.state_dict(), how), tmp_path / "w.pth")
    with pytest.raises(MedsegError, match=message):
        pyramid(NAME, 3, str(tmp_path / "w.pth"), model="emcad")


class Code:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("never",)


def test_files_that_are_missing_broken_or_unsafe_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"patch_embed.proj.weight": Code()}, tmp_path / "code.pth")
    for place, message in (
        ("none.pth", "no file or folder none.pth; give one that has pvt_v2_b0.in1k"),
        (".", r"has none of pvt_v2_b0.in1k.safetensors, pvt_v2_b0.in1k.pth, .*pretrained=false"),
        ("broken.safetensors", "no file of weights that is safe to read"),
        ("code.pth", "no file of weights that is safe to read"),
        ("text.pth", r"text.pth is no file of weights that is safe to read \(\w+: "),
    ):
        with pytest.raises(MedsegError, match=message):
            pyramid(NAME, 3, place, model="emcad")
    assert not (tmp_path / "never").exists()


def test_a_backbone_that_is_unknown_says_so() -> None:
    with pytest.raises(MedsegError, match="emcad: timm has no backbone 'pvt_v9'"):
        pyramid("pvt_v9", 3, model="emcad")
    with pytest.raises(MedsegError, match="segmentation-models-pytorch has no encoder 'mit_b9.imagenet'"):
        pyramid("mit_b9.imagenet", 3, model="esfpnet")


@pytest.fixture
def hub(folder: Path) -> Iterator[str]:
    """A server that answers as the hub does for one repository, and with 404 for all others."""
    content = (folder / f"{NAME}.safetensors").read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            found = self.path.split("?")[0] == f"/timm/{NAME}/resolve/main/model.safetensors"
            self.send_response(200 if found else 404)
            if found:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            if found and body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


SCRIPT = """
import json, sys
from medseg.errors import MedsegError
from medseg.models._backbones import pyramid
from medseg.models._pretrained import records
try:
    print(json.dumps(records(pyramid(sys.argv[1], 3, True, model="emcad"))))
except MedsegError as error:
    print(json.dumps(str(error)))
"""


def from_hub(weights: str, home: Path, before: str = "", **environment: str) -> object:
    """What a fresh process gets from a hub: the records of the weights, or the message of an error."""
    return json.loads(ran(weights, home, before, **environment).stdout.splitlines()[-1])


def ran(weights: str, home: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", before + SCRIPT, weights],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_the_hub_gives_the_weights_and_declares_their_data(hub: str, folder: Path, tmp_path: Path) -> None:
    (record,) = from_hub(NAME, tmp_path, HF_ENDPOINT=hub)
    digest = hashlib.sha256((folder / f"{NAME}.safetensors").read_bytes()).hexdigest()
    assert record["source"] == f"timm/{NAME}" and record["sha256"] == digest
    assert record["trained_on"] == "ImageNet-1k"
    # what has been downloaded is used again without a hub
    assert from_hub(NAME, tmp_path, HF_HUB_OFFLINE="1") == [record]


def test_a_failed_download_names_the_way_out(tmp_path: Path) -> None:
    message = from_hub(NAME, tmp_path, HF_HUB_OFFLINE="1")
    assert isinstance(message, str)
    assert message.startswith(f"emcad: its weights timm/{NAME} cannot be downloaded (")
    assert "--set pretrained=FOLDER" in message and "--set pretrained=false" in message
    assert "\n" not in message


LOADED_BY_NAME = """
import timm.models, timm.models._hub
def torch_only(*arguments, **more):
    raise TypeError("timm 1.0.15 reads what is asked for by name as a pickle")
timm.models.load_state_dict_from_hf = timm.models._hub.load_state_dict_from_hf = torch_only
"""


def test_the_oldest_timm_reads_the_hubs_safetensors_too(hub: str, tmp_path: Path) -> None:
    (record,) = from_hub(NAME, tmp_path, before=LOADED_BY_NAME, HF_ENDPOINT=hub)
    assert record["source"] == f"timm/{NAME}"


REFUSED = """
import logging
logging.basicConfig()
import huggingface_hub
from huggingface_hub.utils import logging as told
def refused(*arguments, **more):
    for attempt in range(5):
        told.get_logger("huggingface_hub.utils._http").warning("Retrying %s", attempt)
    raise OSError("no route to host " * 30)
huggingface_hub.hf_hub_download = refused
"""


def test_a_hub_out_of_reach_costs_one_line(tmp_path: Path) -> None:
    done = ran(NAME, tmp_path, before=REFUSED)
    assert "Retrying" not in done.stderr
    assert "(OSError: no route to host no route" in done.stdout and " ...); give a file" in done.stdout


@pytest.mark.parametrize(
    ("weights", "data"),
    [
        ("pvt_v2_b2.in1k", "ImageNet-1k"),
        ("deit_tiny_distilled_patch16_224.fb_in1k", "ImageNet-1k"),
        ("mit_b3.imagenet", "ImageNet-1k"),
        ("resnet50.fb_swsl_ig1b_ft_in1k", "as its publisher says"),
        ("tf_efficientnet_b0.ns_jft_in1k", "as its publisher says"),
        ("resnet50", "as its publisher says"),
    ],
)
def test_only_a_plain_tag_tells_the_data(weights: str, data: str) -> None:
    assert trained_on(weights) == data


# building by name, freezing, and learning rates by layer


@pytest.fixture
def emcad(folder: Path) -> nn.Module:
    arguments = {"backbone": NAME}
    return models.build("emcad", arguments, in_channels=3, out_channels=1, pretrained=str(folder))


def test_a_model_built_by_name_declares_its_weights(folder: Path, emcad: nn.Module) -> None:
    assert [record["weights"] for record in models.provenance(emcad)] == [NAME]
    told = models.build(
        "emcad",
        {"backbone": NAME},
        in_channels=3,
        out_channels=1,
        pretrained=str(folder),
        pretrained_data="RadImageNet",
    )
    assert [record["trained_on"] for record in models.provenance(told)] == ["RadImageNet"]


def test_models_without_a_backbone_refuse_pretrained_weights_and_frozen_stages() -> None:
    size = {"in_channels": 3, "out_channels": 1}
    with pytest.raises(MedsegError, match="unet has no pre-trained backbone; use --set pretrained=false"):
        models.build("unet", **size, pretrained=True)
    with pytest.raises(MedsegError, match="cannot freeze these of unet; it has no backbone with stages"):
        models.build("unet", **size, frozen_stages=1)
    with pytest.raises(MedsegError, match="cannot freeze these of emcad; its backbone has 4 stages"):
        models.build("emcad", {"backbone": NAME}, **size, frozen_stages=5)
    for nothing in (None, "", 0):
        with pytest.raises(
            MedsegError, match=f"pretrained={nothing!r}: give true, false, or a file or folder"
        ):
            models.build("emcad", {"backbone": NAME}, **size, pretrained=nothing)
    with pytest.raises(MedsegError, match="pretrained is a setting of its own"):
        models.build("emcad", {"backbone": NAME, "pretrained": True}, **size)
