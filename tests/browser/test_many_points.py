"""The cockpit's page with two thousand points on each of ten curves and more: how long an update takes."""

import json

from tests.browser.lab import Lab

FULL = """
from labkit.runs import StageFolder
from labkit.types import Step
from labkit.jobs import Job
from labkit.knobs import Dial, PPOKnobs
from widgets import Cockpit
import math
names = ["score", "objective", "gold", "kl_k1", "kl_k3", "entropy", "clip_fraction", "ratio_mean", "ratio_max",
         "value_loss", "explained_variance", "ptx_loss", "response_length", "end_token_rate"]
knobs = PPOKnobs().to_json()
def step(n):
    return Step("ppo", n, {k: 1.5 + math.sin(n * (i + 1) / 50) for i, k in enumerate(names)}, knobs)
job = Job(lambda schedule: iter(()), folder=StageFolder("full/ppo"), schedule=Dial(PPOKnobs()), total=2000)
job.status = "running"
job.steps.extend(step(n) for n in range(1, 2001))
board = Cockpit(job)
board
"""

DRAWN = """(n) => document.querySelector('.lkc-chart[data-panel=reward] canvas')
    .getAttribute('aria-label').includes(`at step ${n}`)"""


def test_two_thousand_points_on_ten_curves_draw_in_under_150_ms(lab: Lab) -> None:
    lab.open([FULL], "full.ipynb").run_all()
    lab.page.wait_for_function("() => document.querySelectorAll('.lkc-chart:not([hidden])').length >= 10")
    full = "[k for k in board._feed.keys if sum(k in s.metrics for s in board._feed.live.steps) >= 2000]"
    assert len(lab.python(full)) >= 10, "as many curves of as many points as the promise names"
    times, waits = [], []
    for n in range(2001, 2011):
        lab.python(f"job.steps.append(step({n}))")
        lab.page.wait_for_function(
            DRAWN,
            arg=n,
        )
        times.append(float(lab.page.get_attribute(".lkc", "data-draw-ms")))
        waits.append(float(lab.page.get_attribute(".lkc", "data-packet-ms")))
    print("ms to draw, and from packet to picture:", json.dumps(times), json.dumps(waits))
    assert sorted(times)[len(times) // 2] < 150 and sorted(waits)[len(waits) // 2] < 150
