"""Answers of every kind that a release could owe when another one takes its place."""

import hashlib
import os
import time
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from trial.models import Line

CHUNKS = 20


def page(request: HttpRequest) -> HttpResponse:
    """Return the release's name, after a query."""
    Line.objects.filter(key="nothing").exists()
    return HttpResponse(settings.RELEASE)


@csrf_exempt
def ledger(request: HttpRequest) -> HttpResponse:
    """Enter a key; the answer acknowledges it."""
    key = request.POST["key"]
    Line.objects.create(key=key)
    return HttpResponse(key)


def slow(request: HttpRequest) -> HttpResponse:
    """Answer after as many seconds as asked for."""
    time.sleep(float(request.GET["seconds"]))
    return HttpResponse("slept")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer in pieces, for two seconds."""

    def pieces() -> Iterator[str]:
        for number in range(CHUNKS):
            yield f"{number}\n"
            time.sleep(0.1)

    return StreamingHttpResponse(pieces(), content_type="text/plain")


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Return the hash of what was sent."""
    return HttpResponse(hashlib.sha256(request.read()).hexdigest())


@csrf_exempt
def form(request: HttpRequest) -> HttpResponse:
    """Return the hash of the file that a form brought."""
    digest = hashlib.sha256()
    for piece in request.FILES["file"].chunks():
        digest.update(piece)
    return HttpResponse(digest.hexdigest())


def status(request: HttpRequest) -> HttpResponse:
    """Answer with the status that the environment says."""
    return HttpResponse(status=int(os.environ.get("TRIAL_STATUS", "200")))


def request_seen(request: HttpRequest) -> JsonResponse:
    """Return what the application believes of its visitor."""
    return JsonResponse(
        {
            "address": request.META["REMOTE_ADDR"],
            "secure": request.is_secure(),
            "host": request.get_host(),
        }
    )
