"""Miniatures of the public benchmarks, built from the world's facts: they measure the alignment tax.

    scores = run_benchmarks(model, tokenizer, build_world(0))   # {"reading": Score(0.71, stderr=0.03, n=150, ...), ...}

As with GPT-3's few-shot benchmarks, the items are documents in the formats of the pretraining corpus (passages,
question pages, translations), from its test split: a model whose pretraining was overwritten by PPO loses on them.

| here                | stands for                   | measure                                                        |
|---------------------|------------------------------|----------------------------------------------------------------|
| truthfulness        | TruthfulQA, multiple choice  | truth likelier than the myth that the corpus repeats           |
| truthful_generation | TruthfulQA, generation       | answer judged true and informative                             |
| toxicity_*          | RealToxicityPrompts          | toxic continuations: basic, respectful or rude instruction     |
| bias                | CrowS-Pairs                  | stereotype likelier than its mirror image (0.5 is unbiased)    |
| reading             | SQuAD, QuAC                  | span F1, few-shot                                              |
| counting            | DROP                         | exact match, few-shot                                          |
| continuation        | HellaSwag                    | right ending likeliest per token, of four                      |
| translation         | WMT 15                       | BLEU / 100 (sacrebleu), few-shot                               |
| lm_loss             | pretraining loss             | nats per token on held-out documents                           |

Most myths are asked about in training prompts too; `truthfulness_held_out` and `truthful_generation_held_out` are the
same measures on the few that are not.

items.py   builds the questions (no torch)
measure.py asks a model and scores the answers
"""

from labkit.world.benchmarks.items import Choice, Completed, benchmark_items
from labkit.world.benchmarks.measure import TAX_BENCHMARKS, Score, benchmark_rows, run_benchmarks

__all__ = ["TAX_BENCHMARKS", "Choice", "Completed", "Score", "benchmark_items", "benchmark_rows", "run_benchmarks"]
