"""The rig itself: a notebook runs, its state is read, its errors are seen."""

import pytest

from tests.browser.lab import Lab


def test_a_notebook_runs_and_its_kernel_answers(lab: Lab) -> None:
    lab.open(["x = 20", "y = x + 1\nprint('done')"]).run_all()
    assert lab.python("z = y * 2\n{'z': z, 'pid': __import__('os').getpid() > 0}") == {"z": 42, "pid": True}
    assert lab.cells()[1]["outputs"][0]["text"] == "done\n"
    assert lab.complaints() == []
    lab.reload()
    assert lab.python("x") == 20, "the kernel survives a reload of the page"


def test_a_failing_cell_is_seen(lab: Lab) -> None:
    lab.open(["1 / 0"])
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lab.run_all()
    with pytest.raises(AssertionError, match="KeyError"):
        lab.python("{}['missing']")


def test_the_theme_can_be_switched(lab: Lab) -> None:
    lab.open(["1"])
    background = "getComputedStyle(document.body).getPropertyValue('--jp-layout-color1').trim()"
    lab.dark(False)
    light = lab.page.evaluate(background)
    lab.dark()
    assert lab.page.evaluate(background) != light
    lab.dark(False)
