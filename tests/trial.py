"""A Django project in one file, whose views say what reached them; run in the runtime's image."""

import hashlib
import os
import signal
import time
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse, UnreadablePostError
from django.urls import path

settings.configure(
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
MEMORY = Path("/dev/shm")
SIGNAL = MEMORY / "signal"


def health(request):
    """Answer the look at the health."""
    return HttpResponse("well")


def page(request):
    """Return something that is worth compressing."""
    return HttpResponse("a page, " * 1000)


def body(request):
    """Return the hash of a body, as the application reads it."""
    return HttpResponse(hashlib.sha256(request.read()).hexdigest())


def keep(request):
    """Keep how much of a body came, or that it was cut off."""
    try:
        said = f"{len(request.body)} bytes"
    except UnreadablePostError:
        said = "cut off"
    (MEMORY / request.GET["name"]).write_text(said)
    return HttpResponse(said)


def kept(request):
    """Return what was kept."""
    file = MEMORY / request.GET["name"]
    return HttpResponse(file.read_text() if file.exists() else "")


def refuse(request):
    """Answer at length, and read nothing of the body."""
    return HttpResponse(b"no" * int(request.GET["size"]), status=403)


def form(request):
    """Return what a form brought: its fields, and each file's hash and place."""
    files = {
        name: [hashlib.sha256(file.read()).hexdigest(), Path(file.temporary_file_path()).exists()]
        for name, file in request.FILES.items()
    }
    return JsonResponse({"fields": request.POST.dict(), "files": files})


def head(request):
    """Return how much of a request's head came."""
    sizes = [len(name) + len(value) for name, value in request.headers.items()]
    return JsonResponse({"line": len(request.get_full_path()), "fields": sum(sizes)})


def stream(request):
    """Begin an answer, and go on only once the reader asks for that elsewhere."""
    SIGNAL.unlink(missing_ok=True)
    first = "" if "headed" in request.GET else "data: " + "x" * 2048 + "\n\n"

    def pieces():
        yield first
        deadline = time.monotonic() + 30
        while not SIGNAL.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield "the end" if SIGNAL.exists() else "nobody asked"

    return StreamingHttpResponse(pieces(), content_type=request.GET["type"])


def go_on(request):
    """Let the stream go on."""
    SIGNAL.touch()
    return HttpResponse("yes")


def die(request):
    """Take an upload, and die of it as a worker dies whose memory is full."""
    len(request.FILES)
    os.kill(os.getpid(), signal.SIGKILL)


urlpatterns = [
    path("healthz/ready", health),
    path("page", page),
    path("body", body),
    path("keep", keep),
    path("kept", kept),
    path("refuse", refuse),
    path("form", form),
    path("head", head),
    path("stream", stream),
    path("go-on", go_on),
    path("die", die),
]
application = get_wsgi_application()
