"""Records of runs that never happened, in which the paper is right, or in which it is wrong; to test what decides."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from labkit.disk import append_jsonl, write_json, write_jsonl
from labkit.findings.curve import BY_STEP
from labkit.findings.plan import METHODS, MODELS, Plan, variants
from labkit.runs import Run
from labkit.types import Completion, Prompt, Ranking, Rating, Step
from labkit.world.benchmarks import TAX_BENCHMARKS

LOSS = {"base": 0.9, "ppo": 1.3, "ppo_ptx": 1.02, "ppo-longer": 1.4, "ppo-beta=2": 1.15, "ppo_ptx-nomix": 1.1}
LOSS |= {"ppo_ptx-gamma=x0.01": 1.28, "ppo_ptx-gamma=x3": 1.0}
GOLD = {"ppo": 0.7, "ppo_ptx": 0.7, "ppo_ptx-beta=0": 0.6, "ppo_ptx-beta=2": 0.56, "ppo_ptx-nomix": 0.62}
GOLD |= {
    "ppo-lr=x8": 0.2,
    "ppo_ptx-lr=x8": 0.4,
    "ppo-ensemble": 0.65,
    "ppo-beta=0": 0.55,
    **dict.fromkeys(METHODS, 0.6),
}
SCORE = {"ppo": 1.0, "ppo_ptx": 0.95, "ppo-beta=2": 0.3}
TAXED = {"base": 0.7, "ppo": 0.4, "ppo_ptx": 0.58, "ppo-longer": 0.38, "ppo-beta=0.5": 0.45, "ppo-beta=2": 0.48}
TAXED |= {"ppo_ptx-gamma=x0.01": 0.42, "ppo_ptx-gamma=x3": 0.59}
WORTH = {
    "base": 0,
    "few-shot": 1,
    "sft": 2,
    "ppo_init": 2,
    "ppo": 3,
    "ppo_ptx": 3,
}  # what labelers think of each model's answers
WORTH |= dict.fromkeys(METHODS, 3)
START = {"loss": 1.0, "gold": 0.5, "score": 0.0, "taxed": 0.6}
OTHER = {"truthful_generation": (0.2, 0.4), "truthfulness": (0.3, 0.5), "toxicity_respectful": (0.3, 0.1)}
OTHER |= {f"{name}_held_out": (0.2, 0.3) for name in list(OTHER)[:2]}
OTHER |= {"toxicity_basic": (0.3, 0.3), "toxicity_asked": (0.4, 0.6), "bias": (0.7, 0.7)}


def record_all(home: Path, plan: Plan, sign: int) -> None:
    """Everything that the pieces would leave; sign 1: as the paper says, -1: the other way round."""
    for seed in plan.seeds:
        for size in plan.sizes:
            _record(plan.cell(size, seed, home), plan, Random(f"{size}{seed}"), sign)
        rate = 0.5 + 0.3 * sign
        rows = [{"against": m, "rate": rate + 0.01 * (seed % 3)} for m in ("base", "few-shot", "sft")]
        write_json(plan.across(seed, home).path / "across" / "results.json", {"small": plan.sizes[0], "large": plan.sizes[-1], "rows": rows})


def _record(run: Run, plan: Plan, rng: Random, sign: int) -> None:
    def near(value: float, start: float) -> float:
        return start + sign * (value - start) + rng.uniform(-0.004, 0.004)

    for model in ("base", "sft", "ppo_init", *(v.name for v in variants(plan.scale)), *METHODS):
        plain = 1.25 if model.startswith("ppo-") else START["loss"]
        benchmarks = {"lm_loss": near(LOSS.get(model, plain), START["loss"])}
        benchmarks |= {n: near(TAXED.get(model, START["taxed"]), START["taxed"]) for n in TAX_BENCHMARKS}
        for name, (base, aligned) in OTHER.items():
            benchmarks[name] = near(aligned if model.startswith("ppo") else base, base)
        if sign < 0:  # no change is wrong where the paper saw none: here both change
            benchmarks["bias"] = (0.7 if model == "base" else 0.5) + rng.uniform(0, 0.01)
            benchmarks["toxicity_basic"] = 0.3 if model == "base" else 0.6
        row = {"model": model, "error": "", "kl": 1.0, "length": 9.0, "end_rate": 1.0, "benchmarks": benchmarks}
        if model in BY_STEP:
            row["by_step"] = [{"step": n, **{b: benchmarks[b] for b in TAX_BENCHMARKS}} for n in (0, 8, 16)]
        row |= {"gold": near(GOLD.get(model, 0.5), START["gold"]), "score": near(SCORE.get(model, 0.0), START["score"])}
        write_json(run.path / "measured" / f"{model}.json", row)
    for stage, models in (("evaluate", MODELS), ("evaluate-methods", ("sft", "ppo_ptx", *METHODS))):
        write_jsonl(run.path / stage / "rankings.jsonl", (r.to_json() for r in _rankings(rng, sign, models)))
    _pieces(run, near, sign)


def _rankings(rng: Random, sign: int, models: Sequence[str]) -> list[Ranking]:
    """A few see it the other way round, prompting serves one prompt in eight, PPO and PPO-ptx win by turns."""
    found = []
    for i in range(48):
        prompt = Prompt(f"p{i}", "?\n", "closed_qa", meaning={"constraint": "short"})
        completions = tuple(Completion(f"{m}{i}", prompt.id, m, model=m) for m in models)
        taste = -sign if i % 8 == rng.randrange(2) else sign
        turn = {"ppo": 0.1 * (i // 2 % 2), "ppo_ptx": 0.05, "few-shot": 2.5 * (i % 16 in (2, 3))}
        worth = {c.id: taste * WORTH[c.model] + turn.get(c.model, 0.0) for c in completions}
        ticked = {c.id: _flags(c.model in ("ppo", "ppo_ptx"), rng, sign) for c in completions}
        groups = tuple((i,) for i in sorted(worth, key=lambda i: -worth[i]))
        labeler = ("labeler_h00", "labeler_t00")[i % 2]
        found.append(Ranking(prompt, completions, groups, labeler, {i: Rating(4, f) for i, f in ticked.items()}))
    return found


def _flags(aligned: bool, rng: Random, sign: int) -> tuple[str, ...]:
    chance = 0.2 if aligned == (sign > 0) else 0.7
    bad = [f for f in ("hallucination", "fails_instruction") if rng.random() < chance]
    return (*bad, *(["satisfies_constraint"] if rng.random() > chance else []))


def _pieces(run: Run, near: object, sign: int) -> None:
    gap, held = (0.02, 0.7) if sign > 0 else (0.2, 0.4)
    ratio = 10.0**sign
    curve = ((1, 1.0, 0.0, 0.5), (2, 1.1, 0.3, 0.6))
    epochs = [
        {"epoch": i, "valid_loss": near(v, 1.0), "rm_score": near(s, 0.0), "gold": near(g, 0.5)} for i, v, s, g in curve
    ]
    if sign < 0:  # the loss goes on falling, so RM score has nothing to correct
        epochs[0]["rm_score"], epochs[1]["rm_score"] = 1.0, 0.0 + near(0.0, 0.0)
    numbers = {
        "cost": {"reader": 1.0, "sft": near(1.0, 1.0), "ppo_ptx": ratio, "pretraining": 100.0 if sign > 0 else 0.01},
        "folds": {"folds": [{"own": near(held + gap, held + gap), "held_out": near(held, held)} for _ in range(5)]},
        "batching": {
            way: {"valid_loss": near(loss, 0.5), "valid_accuracy": 0.7, "train_loss": 0.4}
            for way, loss in (("prompts", 0.5), ("pairs", 0.6), ("more epochs", 0.7))
        },
        "sft-long": {"epochs": epochs},
        "rounds": {"rounds": [{"gold": near(g, 0.5), "rm_accuracy_new": near(g, 0.5)} for g in (0.5, 0.55, 0.6)]}
        | {"control": {"gold": near(0.52, 0.5)}},
        "best-of-n": {"rows": [{"n": n, "kl": n / 4, "proxy": n / 8, "gold": 0.1 * n} for n in (1, 2, 4)]},
    }
    for piece, found in numbers.items():
        write_json(run.path / piece / "results.json", found)
    for number in range(1, 9):
        score, gold = near(0.1 * number, 0.5), near(0.6 - 0.05 * number, 0.4)
        metrics = {"score": score, "gold": gold, "kl_k1": 0.2 * number, "ptx_loss": near(1 + 0.01 * number, 1.0)}
        for stage in ("ppo", "ppo_ptx", "ppo-longer", "ppo-beta=0"):
            append_jsonl(run.path / stage / "metrics.jsonl", Step("ppo", number, metrics, {}).to_json())
