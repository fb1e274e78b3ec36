"""The addresses of the page: a bundle, one file in, and pictures, numbers and masks out."""

from __future__ import annotations

import asyncio
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from medseg.bundle.open import Bundle
from medseg.predict.predictor import Predictor
from medseg.serve.answer import answer, describe
from medseg.serve.guard import Guard, Refused
from medseg.serve.pictures import decode, encode, heat, outlined
from medseg.serve.shelf import Answer, Frame, Shelf
from medseg.serve.upload import Limits, receive
from medseg.serve.worker import Stopped, Worker, Workplace

PAGES = Path(__file__).with_name("templates")
#: address -> file of the page and its type
STATIC = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
#: what is told where a form has no file or cannot be read
NO_FILE = "no file came; send one as the field 'file' of a multipart form"
PNG = "image/png"
TYPES = {"mask.dcm": "application/dicom", "mask.nii.gz": "application/gzip"}
#: seconds between two looks for answers that nobody asks for any more
SWEEP = 30.0

log = logging.getLogger(__name__)


class Service:
    """What the addresses share: a bundle that is ready, one worker, and answers for a while.

    Args:
        bundle: that predicts.
        predictor: of it.
        limits: of what is taken.
        shelf: for answers.
        parent: of the folder for temporary files; the system's if not given.
    """

    def __init__(
        self,
        bundle: Bundle,
        predictor: Predictor,
        limits: Limits | None = None,
        shelf: Shelf | None = None,
        parent: Path | None = None,
    ) -> None:
        self.bundle, self.predictor = bundle, predictor
        self.limits = limits or Limits()
        self.shelf = Shelf() if shelf is None else shelf
        self.worker = Worker(self.limits.waiting)
        self.workplace = Workplace(parent)

    def predict(self, content: IO[bytes], check: Callable[[], None]) -> Answer:
        """Predict a file, in a folder that is gone afterwards."""
        with warnings.catch_warnings(), self.workplace.folder() as folder:
            # those of DICOM readers quote the header
            warnings.simplefilter("ignore")
            upload = receive(content, folder, self.limits)
            return answer(upload, self.bundle, self.predictor, check)

    def close(self) -> None:
        """Stop working and leave nothing."""
        self.worker.end()
        self.workplace.close()


def build_app(service: Service, hosts: Iterable[str] = ()) -> Guard:
    """The application, guarded.

    Args:
        service: behind it; it is closed when the application ends.
        hosts: names under which it may be called, beside ``localhost`` and IP addresses.
    """
    # its own pages of documentation would fetch scripts from elsewhere
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=_lifespan(service))
    for address in STATIC:
        app.get(address)(_static(address))
    app.get("/api/bundle")(
        lambda: JSONResponse(describe(service.bundle, service.predictor, service.limits.bytes))
    )
    app.post("/api/predict")(_predict(service))
    app.get("/api/results/{number}/{name}")(_result(service))
    app.delete("/api/results/{number}")(_forget(service))
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Stopped, _stopped)
    app.add_exception_handler(RequestValidationError, _misasked)
    app.add_exception_handler(Exception, _failed)
    return Guard(app, hosts, service.limits.bytes)


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(service.shelf))
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            service.close()

    return lifespan


async def _sweep(shelf: Shelf) -> None:
    while True:
        await asyncio.sleep(SWEEP)
        shelf.sweep()


def _static(address: str) -> Callable[[], Response]:
    name, kind = STATIC[address]
    content = (PAGES / name).read_bytes()
    return lambda: Response(content, media_type=kind)


def _predict(service: Service) -> Callable[..., Any]:
    async def predict(request: Request) -> Response:
        with service.worker.place():
            try:
                form = await asyncio.wait_for(request.form(max_files=1, max_fields=0), service.limits.seconds)
            except asyncio.TimeoutError:
                raise Refused(408, "the file took too long to arrive; send it again") from None
            except ValueError:  # of the parser, from which older versions of Starlette do not guard
                raise Refused(400, NO_FILE) from None
            async with _closing(form) as file:
                told = await service.worker.run(
                    lambda check: service.predict(file, check), request.is_disconnected
                )
        number = service.shelf.put(told)
        return JSONResponse({"id": number, **told.facts})

    return predict


@asynccontextmanager
async def _closing(form: Any) -> AsyncIterator[IO[bytes]]:
    """The one file of a form."""
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Refused(400, NO_FILE)
        yield file.file
    finally:
        await form.close()


def _result(service: Service) -> Callable[..., Any]:
    def result(
        number: str,
        name: str,
        frame: int = 0,
        label: int = 1,
        labels: str | None = None,
        coloured: bool = False,
    ) -> Response:
        told = service.shelf.get(number)
        if name in told.files:
            return _file(told.files[name], TYPES[name])
        if not 0 <= frame < len(told.frames):
            raise Refused(404, f"there is no frame {frame}; they are 0 to {len(told.frames) - 1}")
        one = told.frames[frame]
        if name == "displayed.png":
            return Response(one.displayed, media_type=PNG)
        if name not in told.facts["files"]:
            raise Refused(
                404, f"there is no {name[:40]!r} here; this result has {', '.join(told.facts['files'])}"
            )
        if name == "cam.png":
            return Response(encode(heat(decode(one.cam))) if coloured else one.cam, media_type=PNG)
        if name == "mask.png":
            return _file(_mask(one), PNG)
        if name == "overlay.png":
            return Response(outlined(one.displayed, one.mask, _numbers(labels, one)), media_type=PNG)
        return Response(_probability(one, label, coloured), media_type=PNG)

    return result


def _file(content: bytes, kind: str) -> Response:
    # without a name of its own, so that the page can name it after the image
    return Response(content, media_type=kind, headers={"content-disposition": "attachment"})


def _mask(frame: Frame) -> bytes:
    """The mask as ``medseg predict`` writes it: 0 and 255 for one label, else the numbers of labels."""
    if len(frame.probabilities) > 1:
        return frame.mask
    return encode((decode(frame.mask) > 0).astype(np.uint8) * 255)


def _numbers(labels: str | None, frame: Frame) -> list[int]:
    """Numbers of labels such as ``1,3``; all if not given."""
    known = range(1, len(frame.probabilities) + 1)
    if labels is None:
        return list(known)
    parts = [part for part in labels.split(",") if part]
    if any(not part.isdecimal() or len(part) > 3 or int(part) not in known for part in parts):
        raise Refused(404, f"labels are numbers from 1 to {len(known)}, joined by commas")
    return [int(part) for part in parts]


def _probability(frame: Frame, label: int, coloured: bool) -> bytes:
    if not 1 <= label <= len(frame.probabilities):
        raise Refused(404, f"labels are numbers from 1 to {len(frame.probabilities)}")
    grey = frame.probabilities[label - 1]
    return encode(heat(decode(grey))) if coloured else grey


def _forget(service: Service) -> Callable[..., Any]:
    def forget(number: str) -> Response:
        service.shelf.remove(number)
        return Response(status_code=204)

    return forget


async def _refused(request: Request, error: Exception) -> Response:
    """One line of JSON, whatever was wrong with the request."""
    if isinstance(error, Refused):
        return JSONResponse({"error": error.reason}, error.status, error.headers)
    status, words = getattr(error, "status_code", 400), str(getattr(error, "detail", error))
    return JSONResponse({"error": " ".join(words.split())}, status)


async def _stopped(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server is ending; start it again"}, 503)


async def _misasked(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "frame and label are whole numbers, coloured is 0 or 1"}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    """A defect; its words may quote the file, so only its kind and place are told."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s at %s:%s", type(error).__name__, Path(where.filename).name, where.lineno)
    return JSONResponse({"error": f"the prediction failed ({type(error).__name__})"}, 500)
