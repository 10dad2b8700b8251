"""What visitors are known to ask for: a release must not answer it worse than the one before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from . import containers, front
from .environment import Environment
from .front import Answer, Before
from .releases import Release


class Pages:
    """The watched paths and one static file, measured by what the release before gives; without it, by 5xx.

    With `back` a page that the earlier release does not have is no reason to stay with the later one.
    """

    def __init__(
        self, environment: Environment, release: Release, before: Release | None, *, back: bool
    ) -> None:
        self._environment = environment
        self._release = release
        self._before = before
        self._back = back
        self._visitors: front.Visitors | None = None
        self._static: Before = {}
        own = front.OwnSocket(before.socket, environment.url) if before else None
        self._pages = self._asked(own.ask if own else None) | self._asked_static(own)

    def visitors(self) -> front.Visitors | nullcontext[None]:
        """Return who visits the site meanwhile, where there is a site to visit."""
        asked = self._environment.front
        if asked is None or self._environment.maintenance.exists():
            return nullcontext()
        site = front.Site(asked, self._environment.url)
        if not site.ask(asked.path).good:
            return nullcontext()
        self._static = self._asked_static(site)
        self._visitors = front.Visitors(self._environment, self._asked(site.ask))
        return self._visitors

    def switched(self) -> None:
        """Let the visitors ask for the new release's static file from now on."""
        if self._visitors:
            self._visitors.pages |= self._static

    def require(self) -> None:
        """Raise Unfit where the release, at its own socket, gives what is worse."""
        own = front.OwnSocket(self._release.socket, self._environment.url)
        self._require(own.ask, self._pages)

    def require_at_site(self) -> None:
        """Raise Unfit where visitors get what is worse, now that the release serves."""
        if self._visitors:
            site = front.Site(self._environment.front, self._environment.url)
            self._require(site.ask, self._visitors.pages)
        else:
            self.require()

    def _require(self, ask: Callable[[str], Answer], pages: Before) -> None:
        if found := front.worse_pages(ask, pages):
            container = self._release.web.container
            reason = (
                f"{container} does not give visitors what they need: {'; '.join(found)}. Mend it, or take a page that "
                "is meant to go out of django_web_watch_paths."
            )
            raise containers.Unfit(reason, container)

    def _asked(self, ask: Callable[[str], Answer] | None) -> Before:
        """Return each path with what came before, if anything was there to ask."""
        return {
            path: self._lenient(ask(path)) if ask else None
            for path in self._environment.watch_paths
        }

    def _asked_static(self, place: front.OwnSocket | front.Site | None) -> Before:
        """Return the release's static file with the answer to the one before's, for their names differ."""
        if not self._release.static:
            return {}
        known = place and self._before and self._before.static
        return {
            self._release.static: self._lenient(place.ask(self._before.static)) if known else None
        }

    def _lenient(self, answer: Answer) -> Answer | None:
        """Return what a release is measured by; when going back, only what fails on both sides is no reason to stop."""
        return None if self._back and answer.badness < 2 else answer
