"""Rankings to and from other tools' files.

    rows = kwise_rows(rankings)                     # one row per prompt and labeler, all K completions
    rows = pair_rows(rankings)                      # TRL: prompt / chosen / rejected / margin
    rows = remark_rows(["runs/tour/labels"])        # why cards were put aside, and notes
    dataset = to_dataset(rows); write_rows(path, rows)
    parts = split_rankings(rankings, {"train": 0.8, "valid": 0.2}, seed=0)

    rankings = read_rankings_from("harmless-base.jsonl.gz")   # the format is recognised from the keys
    rankings = rankings_from_rows(dataset)                    # any iterable of dicts, a datasets.Dataset too

export.py        K-wise rows, TRL pairs, datasets.Dataset
files.py         from logs and other files to one file: `labkit labels export`
splits.py        splits that never cut a prompt (or a user) apart
rows.py          where rows come from: JSONL, JSON, gzip, saved or hub data sets
dialogues.py     HH dialogues and message lists as prompt and response
importers.py     which format a row is in; HH, TRL, K-wise, scored completions, the lab's own; building.py: from values to a Ranking
annotators.py    Argilla (versions 1 and 2) and Label Studio exports
"""

from labkit.labels.exchange.export import kwise_rows, pair_rows, to_dataset, write_rows
from labkit.labels.exchange.files import remark_rows
from labkit.labels.exchange.importers import FORMATS, rankings_from_rows, read_rankings_from
from labkit.labels.exchange.rows import rows_of
from labkit.labels.exchange.splits import split_rankings

__all__ = [
    "FORMATS",
    "kwise_rows",
    "pair_rows",
    "rankings_from_rows",
    "read_rankings_from",
    "remark_rows",
    "rows_of",
    "split_rankings",
    "to_dataset",
    "write_rows",
]
