"""Commands that go beyond one run of the method: the paper's findings, folds by labeler group, further rounds, other methods."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.common import AsJson, Root, app, fail_unless_done, resumable, show, split
from labkit.errors import SettingsError


@app.command()
def findings(
    name: Annotated[str, typer.Argument(help="Name of the set of runs: runs/NAME.")] = "findings",
    scale: Annotated[str, typer.Option(help="How much of everything: findings, smoke, tour or full.")] = "findings",
    sizes: Annotated[str, typer.Option(help="Policy sizes, comma-separated.")] = "small,medium,large",
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated; 0 to 11 were used in development.")] = (
        "12,13,14,15,16"
    ),
    judge: Annotated[
        str, typer.Option(help="Size whose answers are ranked for the reward model; by default the middle one.")
    ] = "",
    sweep_sizes: Annotated[str, typer.Option(help="Sizes at which sweeps are made; by default the judge's.")] = "",
    jobs: Annotated[int | None, typer.Option(help="Pieces at once; default: one per GPU, else per core.", min=1)] = None,
    only_read: Annotated[bool, typer.Option("--read", help="Run nothing: only measure what is recorded.")] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Run nothing: print each run with what it costs, and the total.")
    ] = False,
    elsewhere: Annotated[
        list[Path] | None, typer.Option("--with", help="findings.json of other seeds, decided together. Repeatable.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="Also write findings.md with its pictures into this folder, below its preface.")
    ] = None,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Reproduce the paper's findings: run what is missing, decide each of them, write a report. Resumable."""
    import json

    from labkit.findings.merge import joined
    from labkit.findings.plan import load_plan, plan_of, whole_numbers
    from labkit.findings.report import read_findings, summary_line, table_text, to_json, write_reports
    from labkit.runs import check_name

    home, errors = Path(root) / check_name(name), {}
    wanted = plan_of(scale, split(sizes), whole_numbers(seeds), judge=judge, sweep=split(sweep_sizes))
    if only_plan:
        from labkit.findings.price import price_list

        print(price_list(wanted, home))
        return
    if not only_read:
        from labkit.findings.execute import carry_out

        say = (lambda line: print(line, file=sys.stderr)) if as_json else print
        with resumable():
            errors = carry_out(load_plan(home, wanted), home, jobs=jobs, say=say)
    records, outcomes = read_findings(home)
    plan, told = records.plan, ""
    for file in elsewhere or []:
        plan, outcomes, said = joined(plan, outcomes, file)
        told += said
    page = write_reports(home, records, outcomes, plan, told, elsewhere or [])
    if docs is not None:
        from labkit.findings.docs import write_docs

        write_docs(docs, records, outcomes, plan, told, elsewhere or [])
    if as_json:
        print(json.dumps(to_json(plan, outcomes), indent=1, ensure_ascii=False))
    else:
        print(f"\n{table_text(outcomes)}\n\n{summary_line(outcomes)}\nReport: {page}")
    fail_unless_done([f"{key}: {error}" for key, error in errors.items()])


@app.command()
def folds(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME, whose rankings are taken, and its model and scale.")] = "main",
    labels: Annotated[
        list[Path] | None, typer.Option(help="Rankings in place of the run's: label logs, folders or files. Repeatable.")
    ] = None,
    groups: Annotated[int, typer.Option(help="Groups of labelers, and so reward models.", min=2)] = 5,
    base: Annotated[str | None, typer.Option(help="What the reward models start from where there is no run; default: the reader.")] = None,
    scale: Annotated[str | None, typer.Option(help="Whose settings: smoke, findings, tour or full; default: what the run says, else tour.")] = None,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Does a reward model serve people it never saw? Five models, each blind to a fifth of the labelers, on held-out prompts."""
    from labkit.experiment.groups import labeler_groups
    from labkit.findings.scales import lab_as_prepared
    from labkit.labels.exchange.files import rankings_of_files
    from labkit.runs import Run

    lab = lab_as_prepared(Run(name, root), scale, reward_base=base)
    given = rankings_of_files(labels) if labels else None
    report = labeler_groups(lab, given, groups=groups, say=lambda line: print(line, file=sys.stderr, flush=True))
    show(report, as_json)


@app.command()
def iterate(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME; what it lacks is made first.")] = "main",
    rounds: Annotated[int, typer.Option(help="Rounds of rankings, reward model and policy.")] = 3,
    scale: Annotated[str | None, typer.Option(help="How much of everything: smoke, findings, tour or full; default: what the run says, else tour.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw comes from it; default: what the run says, else 0.")] = None,
    model: Annotated[str | None, typer.Option(help="What the policy starts from; default: what the run says.")] = None,
    control: Annotated[
        bool, typer.Option(help="Also a policy from as many rankings of the SFT model alone, to compare with.")
    ] = True,
    root: Root = Path("runs"),
) -> None:
    """Iterated RLHF: each round's rankings come from the newest policy, then a new reward model, then a new policy."""
    from tabulate import tabulate

    from labkit.findings.scales import lab_as_prepared
    from labkit.iterate import against_control
    from labkit.iterate import iterate as run_rounds
    from labkit.runs import Run

    lab = lab_as_prepared(Run(name, root), scale, seed, model=model)
    rows = run_rounds(lab, rounds=rounds, control=control)
    print("\n" + tabulate(rows, "keys", floatfmt=".3f", missingval="-"))
    print(f"\n{against_control(rows)}")
    print(f"\nRecord: {Path(root) / name / 'rounds' / 'results.json'}")


@app.command()
def methods(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME; what it lacks is made first.")] = "main",
    chosen: Annotated[
        str, typer.Option("--methods", help="Comma-separated: dpo, kto, rloo, grpo; by default all four.")
    ] = "",
    best_of: Annotated[int, typer.Option(help="n of best-of-n, which stands beside them; 0: leave it out.", min=0)] = 16,
    scale: Annotated[str | None, typer.Option(help="How much of everything: smoke, findings, tour or full; default: what the run says, else tour.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw comes from it; default: what the run says, else 0.")] = None,
    root: Root = Path("runs"),
) -> None:
    """Other methods on the run's prompts and rankings (DPO, KTO, RLOO, GRPO from TRL), beside SFT and PPO on one sheet."""
    from tabulate import tabulate

    from labkit.baselines import EVALUATION, METHODS, compare
    from labkit.findings.scales import lab_as_prepared
    from labkit.rl import best_of_n_kl
    from labkit.runs import Run

    asked = split(chosen) or METHODS
    if strange := [method for method in asked if method not in METHODS]:
        raise SettingsError(f"There is no method {strange[0]!r} here; there are {', '.join(METHODS)}.")
    sheet = compare(lab_as_prepared(Run(name, root), scale, seed), asked, best_of=best_of)
    print("\n".join(["", tabulate(sheet.table(), "keys"), *sheet.notes]))
    print("Labelers' noise was drawn anew: the same models' figures differ from those of 06_evaluate, most where prompts are few.")
    if best_of:
        print(f"\nbest-of-{best_of} departs from SFT by at most {best_of_n_kl(best_of):.2f} nats: log n - (n - 1) / n.")
    print(f"\nRecord: {Path(root) / name / EVALUATION / 'results.json'}")
