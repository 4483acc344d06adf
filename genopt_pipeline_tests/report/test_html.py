"""The page stands alone, escapes what it was given and loses nothing without JavaScript."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from genopt_pipeline.report.html import render_report
from genopt_pipeline.report.markdown import UNKNOWN, between, rate
from genopt_pipeline_tests.report.report_data import report_data

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, texts outside scripts, scripts; and whether tags match."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.scripts = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        elif "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


DATA = report_data()
HTML = render_report(DATA)
PAGE = Page(HTML)


def test_the_page_is_well_formed_and_names_the_account_and_the_time():
    assert "Account main" in PAGE.text
    assert "2026-09-01 12:00 UTC" in PAGE.text
    assert PAGE.all("html")[0]["lang"] == "en"
    assert len(PAGE.all("h1")) == 1


def test_the_page_refers_to_nothing_outside_itself():
    for tag, attrs in PAGE.elements:
        assert not {"src", "href", "action", "srcset"} & attrs.keys(), tag
        assert not any(name.startswith("on") for name in attrs), tag


def test_only_the_scripts_of_the_page_may_run_and_nothing_may_connect():
    policy = next(attrs["content"] for attrs in PAGE.all("meta") if "http-equiv" in attrs)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    run = [text for attrs, text in PAGE.scripts if "type" not in attrs]
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in run
    }
    assert set(rules["script-src"].split()) == hashes
    assert "connect-src" not in rules


def test_each_chart_has_its_data_a_name_and_a_place():
    places = {attrs["id"]: attrs for attrs in PAGE.all("div") if "id" in attrs}
    blocks = [(attrs, text) for attrs, text in PAGE.scripts if "type" in attrs]
    assert len(blocks) == 4
    for attrs, text in blocks:
        figure = json.loads(text)
        assert figure["data"]
        assert places[attrs["data-target"]]["aria-label"]


def test_every_number_of_the_table_can_be_read_without_javascript():
    for row in DATA.summary.itertuples():
        assert row.generator_name in PAGE.text
        if row.posts_measured:
            assert f"{row.impressions:,d}" in PAGE.text
    assert "The charts need JavaScript" in PAGE.text
    assert len(PAGE.all("table")) == len(PAGE.all("caption"))
    assert all(attrs.get("scope") in {"col", "row"} for attrs in PAGE.all("th"))


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" ' &amp;"


def test_text_from_outside_stays_text_wherever_it_appears():
    data = report_data(names=(HOSTILE, "explorer", "idle"), account=HOSTILE, notes=[HOSTILE])
    alert = replace(data.alerts[0], message=HOSTILE)
    event = {"event_type": HOSTILE, "created_at": None, "reason": HOSTILE}
    page = Page(render_report(replace(data, alerts=[alert], events=[event], period=HOSTILE)))
    assert len(page.scripts) == len(PAGE.scripts)
    assert not page.all("img")
    assert page.text.count("<script>alert(1)</script>") >= 6


def test_not_readable_and_nothing_yet_are_said_differently():
    empty = Page(
        render_report(
            replace(
                DATA,
                summary=DATA.summary.iloc[:0],
                history=DATA.history.iloc[:0],
                weights_history=None,
                attribution=None,
                lookbacks=None,
                health=None,
                alerts=(),
                events=(),
                explanations=None,
            )
        )
    )
    assert empty.text.count("These figures could not be read.") == 2
    assert "No generator is registered yet." in empty.text
    assert "No alert is open." in empty.text
    assert "No decision has been made yet." in empty.text
    blocks = [json.loads(text) for attrs, text in empty.scripts if "type" in attrs]
    assert "no generator has measured posts yet" in json.dumps(blocks)


def test_of_posts_whose_draw_is_not_known_nothing_is_compared():
    page = Page(render_report(replace(DATA, draws=None)))
    blocks = [json.loads(text) for attrs, text in page.scripts if "type" in attrs]
    assert "of no post in the period is it known how it was drawn" in json.dumps(blocks)


def test_rates_have_the_decimals_of_the_dashboard():
    rates = {rate(value) for value in DATA.summary["f_per_1k"]}
    cells = set(PAGE.texts)
    assert rates - {UNKNOWN}
    assert rates <= cells
    assert {
        between(*ends)
        for ends in zip(DATA.summary.f_per_1k_low, DATA.summary.f_per_1k_high, strict=True)
    } <= cells


def test_the_same_data_give_the_same_page():
    assert render_report(report_data()) == HTML


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no Chromium here")
def test_a_browser_draws_every_chart_under_the_policy(tmp_path):
    page = tmp_path / "report.html"
    page.write_text(HTML, encoding="utf-8")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom"),
    ]
    done = subprocess.run(
        ["chromium", *options, page.as_uri()], capture_output=True, text=True, check=True
    )
    drawn = re.findall(r'class="chart js-plotly-plot"', done.stdout)
    assert len(drawn) == 4
