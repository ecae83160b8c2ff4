"""The report in a browser: no script error, nothing wider than a phone, columns that sort, a dark mode, links that unfold."""

import shutil

import pytest

from ftp_hf.compare.report.write import HTML, write_report
from tests.support.comparisons import GAIN, LOSS, PLAIN, comparison

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(comparison({"plain": PLAIN, "ftp": GAIN, "l2-sp": LOSS}), folder)
    return folder / HTML


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, report):
    def go(width=1280, scheme="light"):
        opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(report.as_uri())
        pages.append(opened)
        return opened

    errors, requests, pages = [], [], []
    yield go
    for each in pages:
        each.close()
    assert errors == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_page(page, width):
    shown = page(width)
    shown.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


def test_a_click_on_a_head_sorts_and_another_one_turns_the_order_round(page):
    shown = page()
    table = shown.locator("table", has_text="OOD mean").first
    column = table.locator("th", has_text="OOD mean")

    def methods():
        return table.locator("tbody td:first-child").all_inner_texts()

    column.locator("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert [each.lower() for each in methods()] == ["ftp", "plain fine-tuning", "l2-sp"]
    column.locator("button").click()
    assert [each.lower() for each in methods()] == ["l2-sp", "plain fine-tuning", "ftp"]
    table.locator("th button").first.click()
    assert methods() == sorted(methods(), key=str.lower)


def test_it_is_as_dark_as_the_system_until_it_is_asked_for_the_other(page):
    shown = page(scheme="dark")

    def lightness():
        return shown.evaluate("Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g))")

    assert lightness() < 60
    shown.get_by_role("button", name="light or dark").click()
    assert lightness() == 255


def test_a_link_of_the_contents_opens_what_is_folded(page):
    shown = page()
    shown.get_by_role("link", name="How to read this").click()
    assert shown.locator("details", has_text="How to read this").get_attribute("open") is not None


def test_pointing_at_a_mark_says_whose_it_is_and_its_figures(page):
    shown = page()
    spot = shown.locator('.spot[data-said^="FTP, mean"]').first
    assert spot.get_attribute("data-said") == "FTP, mean: 91, 63"
    spot.hover(force=True)
    assert "FTP, mean" in shown.evaluate("each => getComputedStyle(each, '::after').content", spot.element_handle())
