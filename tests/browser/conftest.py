"""A real browser before the whole system: gate, worker and beat on the test's servers, and the system's Chromium.

What a page shows at the end of each test, and wherever a test asks for it, is kept as a picture under
`.seonchak/screenshots`.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from redis import Redis

from config.embedded import push_key
from tests.celery_kit import Processes
from tests.factories import make_user
from tests.web import PATIENT, Server, running

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 20_000  # milliseconds for what a page is to show
PASSWORD = "a password of the tests"
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

# Playwright's own loop runs in the thread of the tests, and Django would take it for one that must not wait.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's browser. Where there is none the tests are skipped, but not in CI: there it is installed."""
    path = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        why = f"no browser is installed here (one of {', '.join(BROWSERS)}, or BROWSER_PATH)"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(transactional_db: None, tmp_path: Path) -> Iterator[Server]:
    """The gate, which serves everything, and the processes behind it."""
    with Redis.from_url(settings.BROKER_URL) as broker:
        broker.flushdb()
    processes = Processes(tmp_path)
    try:
        processes.start("worker")
        processes.start("beat")
        with running(tmp_path, "gate", {"VAPID_PRIVATE_KEY": push_key(tmp_path), **PATIENT}) as server:
            yield server
    finally:
        processes.end()


@dataclass
class Visitor:
    """Somebody at a browser of their own."""

    context: BrowserContext
    page: Page
    base: str
    errors: list[str] = field(default_factory=list)

    def heed(self, message: ConsoleMessage) -> None:
        """Note what the console calls an error.

        It calls every refusal of the API one, which are answers to us; but no page asks for what is not there.
        """
        url = message.location.get("url", "")
        if message.type == "error" and ("/api/" not in url or " 404 " in message.text):
            self.errors.append(f"{message.text} {url}")

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def sign_in(self, path: str = "/") -> None:
        """As a new customer; they are on the page of that path afterwards."""
        user = make_user()
        user.set_password(PASSWORD)
        user.save()
        self.open(f"/accounts/login?next={path}")
        self.page.fill("[name=username]", user.username)
        self.page.fill("[name=password]", PASSWORD)
        self.page.press("[name=password]", "Enter")
        self.page.wait_for_url(re.compile(re.escape(self.base + path.partition("?")[0]) + r"(\?.*)?$"))

    def stage(self, name: str) -> None:
        """Wait until the page of a sale is at a stage."""
        self.page.wait_for_selector(f"#sale[data-stage={name}]")

    def picture(self, name: str) -> None:
        """Keep what is to be seen."""
        folder = settings.LOCAL_DIR / "screenshots"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: Browser, site: Server, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A new visitor: `visit()`; `visit(viewport=PHONE, locale="ko-KR")`. No page may report an error in its console."""
    visitors: list[Visitor] = []

    def come(*, locale: str = "en-US", may_fail: bool = False, **options: object) -> Visitor:
        context = chromium.new_context(locale=locale, **{"viewport": DESK, **options})  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        visitor = Visitor(context, page, f"http://127.0.0.1:{site.port}")
        if not may_fail:
            page.on("console", visitor.heed)
            page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        visitors.append(visitor)
        return visitor

    yield come
    for number, visitor in enumerate(visitors):
        visitor.picture(f"{request.node.name}-{number}")
        visitor.context.close()
    assert [error for visitor in visitors for error in visitor.errors] == []
