"""Check a built site: every internal link has a target, and nothing is loaded from other sites.

    python docs/check_site.py build/docs
    python docs/check_site.py build/docs --browser screenshots     # needs Chromium and selenium

In a browser, without a network, some pages are opened on a desktop and on a phone, in light and in
dark, and photographed; no message may appear on the console, no request may leave the machine, and
the search must find what there is. On the phone, every page must fit the width.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

PAGES = (
    "index.html",
    "tour.html",
    "guides/many_classes.html",
    "concepts/accuracy.html",
    "performance.html",
    "examples/index.html",
    "examples/digits.html",
    "api/arrays.html",
    "api/generated/boltzmax.softmax.html",
    "api/generated/boltzmax.HierarchicalSoftmax.html",
    "search.html?q=softmax",
)
SCREENS = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
# The texts of a page that end beyond the width of the screen and cannot be scrolled to.
CUT_OFF = """
const width = arguments[0], found = [];
const end = (element) => element.getBoundingClientRect().right - 1;
const scrolls = (box) => /auto|scroll/.test(getComputedStyle(box).overflowX) && end(box) <= width;
for (const element of document.querySelectorAll(".bd-article *")) {
  if (element.children.length || end(element) <= width) continue;
  let box = element.parentElement;
  while (!box.matches(".bd-article") && !scrolls(box)) box = box.parentElement;
  if (box.matches(".bd-article")) found.push(element.textContent.slice(0, 40));
}
return found;
"""
LOADED = {("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src")}


class Page(HTMLParser):
    """The links of a page, the files that it loads, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Record a tag."""
        values = {name: value for name, value in attributes if value is not None}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        for name, value in values.items():
            if (tag, name) in LOADED or (tag, name) == ("link", "href"):
                self.loads.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def pages_of(site: Path) -> list[Path]:
    """Return the pages of a site."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]


def broken(site: Path) -> list[str]:
    """Return what is wrong with the links of the pages."""
    pages = {path: Page(path) for path in pages_of(site)}
    found = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            address, fragment = urldefrag(link)
            if urlsplit(address).scheme or address.startswith("//"):
                if link in page.loads:
                    found.append(f"{path.relative_to(site)} loads {link}")
                continue
            target = path.parent / unquote(urlsplit(address).path) if address else path
            target = target.resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.append(f"{path.relative_to(site)}: no {link}")
            elif fragment and target in pages and unquote(fragment) not in pages[target].names:
                found.append(f"{path.relative_to(site)}: nothing is called {link}")
    return found


# ---- in a browser


class Handler(http.server.SimpleHTTPRequestHandler):
    """A silent server of files."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


def look(site: Path, folder: Path) -> list[str]:
    """Open and photograph pages; return what went wrong."""
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    folder.mkdir(parents=True, exist_ok=True)
    handler = functools.partial(Handler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    found = []
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        for screen, (width, height, mobile) in SCREENS.items():
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            for mode in ("light", "dark"):
                scheme = [{"name": "prefers-color-scheme", "value": mode}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
                for page in PAGES:
                    driver.get(home + page)
                    name = page.split("?")[0].removesuffix(".html").replace("/", "-")
                    if "?" in page:
                        WebDriverWait(driver, 20).until(
                            lambda d: d.find_elements(By.CSS_SELECTOR, "ul.search li")
                        )
                        results = driver.find_elements(By.CSS_SELECTOR, "ul.search li a")
                        if not any("softmax" in r.text for r in results):
                            found.append("the search does not find softmax")
                    if driver.execute_script("return document.body.scrollWidth") > width:
                        found.append(f"{page}, {screen}: too wide")
                    driver.save_screenshot(str(folder / f"{name}-{screen}-{mode}.png"))
            if mobile:
                for path in pages_of(site):
                    driver.get(home + path.relative_to(site).as_posix())
                    for text in driver.execute_script(CUT_OFF, width):
                        found.append(f"{path.relative_to(site)}, {screen}: cut off: {text}")
        for entry in driver.get_log("browser"):
            if entry["level"] not in ("DEBUG", "INFO"):
                found.append(f"console, {entry['level']}: {entry['message']}")
        for entry in driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith((home, "data:", "blob:")):
                    found.append(f"requested: {url}")
    finally:
        driver.quit()
        server.shutdown()
    return sorted(set(found))


def main() -> int:
    """Return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser", type=Path, metavar="FOLDER", help="of screenshots")
    args = parser.parse_args()
    site = args.site.resolve()
    found = broken(site)
    if args.browser:
        found += look(site, args.browser)
    print(*found, f"{len(found)} faults in {site.name}", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
