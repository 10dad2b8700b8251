"""Who the visitor is, behind the proxy."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


class VisitorMiddleware:
    """Makes REMOTE_ADDR the visitor's address where the request came over the proxy's socket.

    A socket of the file system has no address, and only the proxy reaches it: what it adds to the
    end of X-Forwarded-For is the address that it saw. Requests over TCP are left as they are.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the application's answer."""
        if not request.META.get("REMOTE_ADDR"):
            address = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
            request.META["REMOTE_ADDR"] = address
        return self.get_response(request)
