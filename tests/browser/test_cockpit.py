"""The cockpit in a real JupyterLab: steer a job that trains meanwhile, roll back, branch, reload, and trust no text."""

from collections.abc import Callable

import pytest

from tests.browser.lab import Lab

CELL = """
from tests.toy_job import toy_job
from widgets import Cockpit
job = toy_job("{folder}/ppo", total={total}, seconds={seconds}, hostile={hostile})
def sample(prompts):
    return [{{"response": "<b>sampled</b> " + p, "score": 1.5}} for p in prompts]
prompts = ["Where does the fox live?\\n", "What does the otter eat?\\n"]
board = Cockpit(job, sample=sample, evaluate=lambda prompts: {{"win rate": 0.61}}, prompts=prompts)
board
"""


@pytest.fixture
def cockpit(lab: Lab, request: pytest.FixtureRequest) -> Callable[..., Lab]:
    """Open a notebook with a cockpit on a toy job and wait until the board is drawn."""

    def start(total: int = 400, seconds: float = 0.05, hostile: bool = False) -> Lab:
        folder = request.node.name.replace("[", "-").replace("]", "")
        lab.open([CELL.format(folder=folder, total=total, seconds=seconds, hostile=hostile)], f"{folder}.ipynb")
        lab.run_all()
        lab.page.wait_for_selector(".lkc-button[data-what=start]")
        return lab

    return start


def press(lab: Lab, what: str) -> None:
    lab.page.click(f".lkc-button[data-what={what}]")


def wait(lab: Lab, true: str) -> None:
    """Wait until an expression in the kernel is true."""
    for _ in range(200):
        if lab.python(true):
            return
        lab.page.wait_for_timeout(100)
    raise AssertionError(f"never true: {true}")


def test_beta_moved_in_mid_training_is_in_the_ledger_and_in_the_next_steps_metrics(cockpit, shots) -> None:
    lab = cockpit(total=4000)  # the run does not end while a busy machine presses keys
    press(lab, "start")
    wait(lab, "len(job.steps) > 3")
    lab.page.fill(".lkk-why", "KL grows")
    slider = lab.page.locator("[data-knob=kl_coef] input[type=range]")
    slider.focus()
    for _ in range(40):
        slider.press("ArrowRight")
    lab.page.wait_for_timeout(800)  # the last movement has asked; between slow key presses the slider asked before
    wait(lab, "not job.dial.pending and any(r['knob'] == 'kl_coef' for r in job.folder.ledger())")
    row = lab.python("[r for r in job.folder.ledger() if r['knob'] == 'kl_coef'][-1]")
    assert row["outcome"] == "applied" and row["why"] == "KL grows" and row["new"] > 0.02
    wait(lab, f"job.steps[-1].number > {row['step']}")
    before, after = lab.python(
        f"[job.steps[{row['step'] - 2}].knobs['kl_coef'], job.steps[{row['step'] - 1}].knobs['kl_coef']]"
    )
    assert (before, after) == (row["old"], row["new"])
    lab.page.wait_for_function(
        "(s) => document.querySelector('[data-knob=kl_coef] .lkk-fate').textContent.includes(s)",
        arg=f"since step {row['step']}",
    )
    lab.page.fill("[data-knob=clip] .lkk-number", "7")
    lab.page.press("[data-knob=clip] .lkk-number", "Enter")
    lab.page.wait_for_selector("[data-knob=clip] .lkk-fate[data-tone=bad]")
    assert "must lie between" in lab.page.inner_text("[data-knob=clip] .lkk-fate")
    lab.page.locator(".lkc").screenshot(path=shots("cockpit-light"))
    lab.dark()
    lab.page.locator(".lkc").screenshot(path=shots("cockpit-dark"))
    lab.dark(False)
    press(lab, "stop")
    assert lab.complaints() == []


def test_a_cockpit_whose_kernel_was_restarted_says_so(cockpit) -> None:
    lab = cockpit(total=4000, seconds=0.05)
    press(lab, "start")
    wait(lab, "len(job.steps) > 2")
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lab.wait_kernel()
    press(lab, "pause")
    lab.page.wait_for_selector(".lk-gone", timeout=5_000)
    assert "Run its cell again" in lab.page.inner_text(".lk-gone")


def test_pause_step_rollback_and_branch(cockpit, shots) -> None:
    lab = cockpit(total=4000, seconds=0.03)
    press(lab, "start")
    wait(lab, "len(job.steps) > 12")
    press(lab, "pause")
    wait(lab, "job.status == 'paused'")
    count = lab.python("len(job.steps)")
    press(lab, "step")
    wait(lab, f"len(job.steps) == {count + 1} and job.status == 'paused'")
    lab.page.wait_for_function(
        "(n) => document.querySelector('.lkc-line').textContent.includes(`step ${n} of`)", arg=count + 1
    )
    target = lab.page.locator("[aria-label='Snapshot to roll back to'] option").first.get_attribute("value")
    lab.page.select_option("[aria-label='Snapshot to roll back to']", target)
    lab.page.fill(".lkk-why", "gold fell")
    lab.page.click("text=Roll back")
    wait(lab, f"len(job.steps) == {target}")
    assert lab.python("[(r['knob'], r['why']) for r in job.folder.ledger()]") == [["rollback", "gold fell"]]
    lab.page.wait_for_selector(".lkc-run[data-role=ghost]")
    lab.page.fill(".lkc-name", "gentle")
    lab.page.press(".lkc-name", "Enter")
    wait(lab, "job.folder.path.name == 'ppo@gentle'")
    press(lab, "resume")
    wait(lab, f"len(job.steps) > {target} + 3")
    lab.page.wait_for_selector(".lkc-run[data-role=live]")
    names = lab.page.locator(".lkc-run").all_inner_texts()
    assert {"ppo", "ppo@gentle"} <= set(names)
    lab.page.locator(".lkc").screenshot(path=shots("cockpit-branches"))
    press(lab, "stop")
    wait(lab, "job.status == 'stopped'")
    assert lab.complaints() == []


def test_branch_from_an_earlier_step_while_it_runs_and_after_its_end(cockpit) -> None:
    lab = cockpit(total=30, seconds=0.02)
    names = "[b.path.name for b in job.branches]"
    press(lab, "start")
    wait(lab, "job.status == 'done' and not job.alive")
    lab.page.wait_for_function("() => [...document.querySelectorAll('.lkc-at option')].map((o) => o.value).join() === '5,10,15,20,25,30'")
    lab.page.select_option(".lkc-at", "20")
    lab.page.fill(".lkc-name", "late")
    lab.page.press(".lkc-name", "Enter")
    wait(lab, "job.status == 'paused' and len(job.steps) == 20")
    lab.page.wait_for_selector(".lkc-run[data-role=live]")
    assert lab.page.locator(".lkc-run").all_inner_texts() == ["ppo", "ppo@late"]
    press(lab, "step")
    wait(lab, "len(job.steps) == 21 and job.status == 'paused'")
    assert lab.page.locator(".lkc-at option").first.inner_text() == "from here"
    lab.page.wait_for_function("() => document.querySelector('.lkc-at').value === 'now' || document.querySelector('.lkc-at').value === '20'")
    lab.page.select_option(".lkc-at", "now")
    lab.page.fill(".lkc-name", "on")
    lab.page.click("text=Branch off")
    wait(lab, f"{names} == ['ppo', 'ppo@late', 'ppo@on']")
    assert lab.python("[len(b.steps()) for b in job.branches]") == [30, 21, 21]
    assert lab.python("[b.status for b in job.branches]") == ["done", "stopped", "running"]
    press(lab, "stop")
    assert lab.complaints() == []


def test_reload_in_mid_training_and_go_on_steering(cockpit) -> None:
    lab = cockpit(total=2000, seconds=0.05)
    press(lab, "start")
    wait(lab, "len(job.steps) > 5")
    lab.command("docmanager:save")
    lab.reload()
    lab.page.wait_for_selector(".lkc-button[data-what=pause]")
    assert lab.python("job.status") == "running"
    lab.page.wait_for_selector(".lkc-chart[data-panel=kl]:not([hidden])")
    spoken = lab.page.get_attribute(".lkc-chart[data-panel=reward] canvas", "aria-label")
    assert spoken.startswith("Reward: RM score") and "at step" in spoken
    lab.page.fill("[data-knob=ptx_coef] .lkk-number", "5")
    lab.page.press("[data-knob=ptx_coef] .lkk-number", "Enter")
    wait(lab, "job.dial.knobs.ptx_coef == 5")
    lab.page.click(".lkk-switch")
    wait(lab, "job.dial.auto")
    lab.page.wait_for_function("() => document.querySelector('[data-knob=kl_coef] input').disabled")
    press(lab, "stop")
    assert lab.complaints() == []


def test_before_the_first_step_start_is_asked_for_only_where_it_stands(cockpit) -> None:
    lab = cockpit(total=1, seconds=5.0)
    assert "Press Start" in lab.page.inner_text(".lkc-empty")
    press(lab, "start")
    lab.page.wait_for_selector(".lkc-pill[data-status=running]")
    assert lab.page.inner_text(".lkc-empty") == "Curves appear with the first step."
    press(lab, "stop")


def test_hostile_samples_are_text_and_keys_stay_in_the_board(cockpit) -> None:
    lab = cockpit(total=3, seconds=0.02, hostile=True)
    press(lab, "start")
    wait(lab, "job.status == 'done'")
    lab.page.wait_for_selector("text=<img src=x onerror")
    assert lab.page.locator(".lkc-table img, .lkc-table mjx-container").count() == 0
    assert "U+202E" in lab.page.inner_text(".lkc-table")
    assert lab.page.locator(".lkc-table .lk-blank").all_inner_texts() == ["empty answer"]
    assert lab.page.evaluate("window.__hacked") is None
    lab.page.click("text=Ask the policy now")
    own = lab.page.locator(".lkc-own")
    own.focus()
    own.press_sequentially("add d d x m b")
    assert own.input_value() == "add d d x m b" and len(lab.cells()) == 1
    press(lab, "sample")
    lab.page.wait_for_selector("text=<b>sampled</b> add d d x m b")
    press(lab, "evaluate")
    lab.page.wait_for_selector("text=win rate")
    for selector in (".lkc-canvas", ".lkk-switch", ".lkc-name", "summary"):
        lab.page.locator(f".lkc {selector}").first.focus()
        lab.page.keyboard.press("d")
        lab.page.keyboard.press("d")
    assert len(lab.cells()) == 1
    assert lab.complaints() == []


def without_penalty(cockpit, alert: str):
    """A run whose β was set to 0 by hand, and that raises this alert."""
    lab = cockpit(total=2000, seconds=0.03)
    press(lab, "start")
    lab.page.fill("[data-knob=kl_coef] .lkk-number", "0")
    lab.page.press("[data-knob=kl_coef] .lkk-number", "Enter")
    lab.page.wait_for_selector(alert)
    wait(lab, "job.dial.knobs.kl_coef == 0")
    return lab


def test_an_alert_is_applied_with_one_click(cockpit) -> None:
    lab = without_penalty(cockpit, ".lkc-alert")
    lab.page.locator(".lkc-apply").first.click()
    wait(lab, "job.dial.knobs.kl_coef == 0.02")
    assert lab.python("job.folder.ledger()[-1]['why']").startswith("alert: ")
    press(lab, "stop")


def test_a_knob_box_that_was_left_as_it_was_follows_the_knob_and_turns_nothing(cockpit) -> None:
    lab = cockpit(total=4000, seconds=0.05)
    press(lab, "start")
    box = lab.page.locator("[data-knob=kl_coef] .lkk-number")
    box.click()
    box.press("End")
    for key in ("0", "Backspace", "Tab"):
        box.press(key)
    lab.python("job.dial.turn(kl_coef=0.5)\nTrue")
    wait(lab, "job.dial.knobs.kl_coef == 0.5")
    lab.page.wait_for_function("() => document.querySelector('[data-knob=kl_coef] .lkk-number').value === '0.5'", timeout=10_000)
    box.focus()
    box.press("Tab")
    reached = lab.python("len(job.steps)")
    wait(lab, f"len(job.steps) > {reached} + 5")
    assert lab.python("[r['new'] for r in job.folder.ledger()]") == [0.5]
    box.focus()
    box.press("End")
    box.press("1")
    lab.python("job.dial.release()\nTrue")  # the controller takes β while somebody types
    lab.page.wait_for_function("() => document.querySelector('[data-knob=kl_coef] .lkk-number').disabled")
    lab.page.wait_for_function("() => document.querySelector('[data-knob=kl_coef] .lkk-number').value !== '0.51'", timeout=10_000)
    press(lab, "stop")
    assert lab.complaints() == []


WINS = """
rates = iter([0.8, 0.3])
def falling(prompts):
    rate = next(rates)
    return {"win_rate": rate, "low": rate - 0.1, "high": rate + 0.1, "n": 40}
board.evaluate = falling
True
"""


#: Coloured pixels above and below the first point of a chart, where a line alone would leave none.
BARS = """(canvas) => {
    const ratio = canvas.width / canvas.clientWidth, pixels = canvas.getContext('2d').getImageData(38 * ratio, 0, 5 * ratio, canvas.height).data;
    let found = 0;
    for (let i = 0; i < pixels.length; i += 4) {
        if (pixels[i + 3] > 100 && Math.max(...pixels.slice(i, i + 3)) - Math.min(...pixels.slice(i, i + 3)) > 60) found++;
    }
    return found;
}"""


def test_two_evaluations_on_all_prompts_tell_a_fall_of_the_win_rate(cockpit, shots) -> None:
    lab = cockpit(total=4000, seconds=0.02)
    lab.python(WINS)
    assert lab.page.locator(".lkc-chart[data-panel=win_rate]").is_hidden(), "no empty chart where nothing was measured"
    for steps in (1, 8):
        for _ in range(steps):
            reached = lab.python("len(job.steps)")
            press(lab, "step")
            wait(lab, f"len(job.steps) == {reached + 1} and job.status == 'paused'")
            lab.page.wait_for_selector(".lkc-button[data-what=resume]:not([hidden])")
        if steps == 1:
            lab.page.click("text=Ask the policy now")
            lab.page.click("text=All / none")
        press(lab, "evaluate")
        lab.page.wait_for_selector(f"text=Evaluated after step {reached + 1} on 2 prompts")
    chart = lab.page.locator(".lkc-chart[data-panel=win_rate] canvas")
    chart.focus()
    assert chart.get_attribute("aria-label") == "Win rate: 2 prompts 0.3 [0.2, 0.4] at step 9, from 0.3 to 0.8"
    chart.press("Home")
    assert lab.page.inner_text(".lkc-chart[data-panel=win_rate] .lkc-tip").splitlines() == ["step 1", "2 prompts 0.8 [0.7, 0.9]"]
    assert chart.evaluate(BARS) > 40, "a bar of its interval at the first step's place"
    alert = lab.page.locator(".lkc-alert", has_text="win rate on the same 2 prompts fell from 80 % [70 % to 90 %] at step 1 to 30 % [20 % to 40 %] at step 9")
    alert.wait_for(timeout=10_000)
    lab.page.locator(".lkc").screenshot(path=shots("cockpit-win-rate"))
    assert lab.python("[(r['step'], len(r['prompts'])) for r in job.folder.evaluations()]") == [[1, 2], [9, 2]]
    lab.page.click("text=All / none")
    assert lab.page.locator(".lkc-prompts input:checked").count() == 0
    press(lab, "stop")
    assert lab.complaints() == []


WATCHED = """() => {
    const list = document.querySelector(".lkc-alerts"), row = list.querySelector("[data-rule=kl_runaway]");
    window.watched = { row, said: row.innerText, changes: 0, moved: 0 };
    row.querySelector(".lkc-apply").focus();
    new MutationObserver((seen) => (watched.moved += seen.length)).observe(list, { childList: true });
    new MutationObserver(() => row.innerText !== watched.said && (watched.changes++, (watched.said = row.innerText)))
        .observe(list, { childList: true, subtree: true, characterData: true });
}"""


def test_an_alert_keeps_its_row_its_focus_and_a_click_while_its_numbers_change(cockpit) -> None:
    lab = without_penalty(cockpit, ".lkc-alert[data-rule=kl_runaway]")
    lab.page.evaluate(WATCHED)
    lab.page.wait_for_function("() => watched.changes >= 2")
    kept = "() => [watched.row.isConnected, watched.row.contains(document.activeElement)]"
    assert lab.page.evaluate(kept) == [True, True]
    assert lab.page.get_attribute(".lkc-alerts", "aria-relevant") == "additions", "changed numbers are not read out again"
    box = lab.page.locator(".lkc-alert[data-rule=kl_runaway] .lkc-apply").bounding_box()
    lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    lab.page.mouse.down()
    before = lab.page.evaluate("() => watched.changes")
    lab.page.wait_for_function("(n) => watched.changes > n", arg=before)
    lab.page.mouse.up()
    wait(lab, "job.dial.knobs.kl_coef == 0.02")
    lab.page.wait_for_selector(".lkc-alert[data-rule=kl_runaway]", state="detached")
    lab.page.wait_for_function("() => document.querySelector('.lkc').contains(document.activeElement)")
    press(lab, "stop")
    assert lab.complaints() == []


BREAKS = """
from labkit.errors import InvariantError
make = job.make_loop
def breaks(schedule):
    for step in make(schedule):
        if step.number == 8 and step.knobs["policy_lr"] == 1e-3:
            raise InvariantError("Step 8: policy_loss is nan. Usual causes: a learning rate too high.")
        yield step
job.make_loop = breaks
True
"""


def test_after_a_broken_promise_one_turns_a_knob_and_rolls_back(cockpit) -> None:
    lab = cockpit(total=30, seconds=0.02)
    lab.python(BREAKS)
    press(lab, "start")
    lab.page.wait_for_selector(".lkc-alert[data-rule=failed]")
    assert "policy_loss is nan" in lab.page.inner_text(".lkc-alert[data-rule=failed]")
    lab.page.locator(".lkc-alert[data-rule=failed] .lkc-apply").click()
    assert lab.page.inner_text(".lkc-alert[data-rule=failed] .lkc-back") == "Go back to step 5"
    lab.page.locator(".lkc-alert[data-rule=failed] .lkc-back").click()
    wait(lab, "job.status == 'paused'")
    press(lab, "resume")
    wait(lab, "job.status == 'done'")
    assert lab.python("job.steps[5].knobs['policy_lr']") < 5e-4
    lab.page.wait_for_selector(".lkc-alert[data-rule=failed]", state="detached")
    assert lab.complaints() == []
