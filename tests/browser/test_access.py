"""Cockpit and inspector for people who see little or use no mouse: an axe-core scan of every page in both themes."""

from __future__ import annotations

import pytest

from tests.browser.axe import violations
from tests.browser.lab import Lab
from tests.browser.test_cockpit import CELL as COCKPIT
from tests.browser.test_inspector import CELL as INSPECTOR

THEMES = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])


@THEMES
def test_no_serious_violation_on_the_cockpit(lab: Lab, dark: bool) -> None:
    cell = COCKPIT.format(folder=f"access-{dark}", total=12, seconds=0.02, hostile=False)
    lab.open([cell], "access.ipynb").run_all()
    lab.dark(dark)
    page = lab.page
    found = violations(page, ".lkc")
    page.fill("[data-knob=kl_coef] .lkk-number", "0")  # an alert, and a request with a fate
    page.press("[data-knob=kl_coef] .lkk-number", "Enter")
    page.fill("[data-knob=clip] .lkk-number", "7")
    page.press("[data-knob=clip] .lkk-number", "Enter")
    page.click(".lkc-button[data-what=start]")
    page.wait_for_selector(".lkc-pill[data-status=done]")
    page.locator(".lkc-section:not([open]) summary").first.click()
    page.locator(".lkc-section:not([open]) summary").first.click()
    page.wait_for_selector("[data-knob=clip] .lkk-fate[data-tone=bad]")
    page.wait_for_selector(".lkc-alert")
    found += violations(page, ".lkc")
    assert found == []
    lab.dark(False)


@THEMES
def test_no_serious_violation_on_the_inspector(lab: Lab, dark: bool) -> None:
    lab.open([INSPECTOR], "access.ipynb").run_all()
    lab.dark(dark)
    page = lab.page
    page.wait_for_selector(".lki-token")
    page.click(".lki-numbers summary")
    found = violations(page, ".lki")
    page.locator(".lki-tab").nth(1).click()
    page.wait_for_selector(".lki-figures img")
    found += violations(page, ".lki")
    page.locator(".lki-tab").nth(2).click()
    page.click("text=Probe the filtered responses")
    page.wait_for_selector(".lki-effect")
    found += violations(page, ".lki")
    assert found == []
    lab.dark(False)
