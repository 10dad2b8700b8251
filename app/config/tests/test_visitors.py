"""The visitor's address behind the proxy."""

from django.http import HttpResponse
from django.test import RequestFactory, SimpleTestCase

from config.visitors import VisitorMiddleware


class VisitorMiddlewareTests(SimpleTestCase):
    def seen(self, **meta: str) -> str:
        request = RequestFactory().get("/", **meta)
        VisitorMiddleware(lambda _: HttpResponse())(request)
        return request.META["REMOTE_ADDR"]

    def test_over_the_socket_it_is_what_the_proxy_saw_last(self) -> None:
        forged = "192.0.2.66, 198.51.100.7"
        self.assertEqual(self.seen(REMOTE_ADDR="", HTTP_X_FORWARDED_FOR=forged), "198.51.100.7")

    def test_over_tcp_nobody_is_believed(self) -> None:
        forged = "192.0.2.66"
        seen = self.seen(REMOTE_ADDR="203.0.113.9", HTTP_X_FORWARDED_FOR=forged)
        self.assertEqual(seen, "203.0.113.9")

    def test_without_a_proxy_there_is_none(self) -> None:
        self.assertEqual(self.seen(REMOTE_ADDR=""), "")
