"""Agreement between labelers: how often, how strongly, and how sure one can be of it.

    report = agreement(rankings)              # Ranking objects, for example read_rankings("runs/tour/labels")
    report = agreement_of_files(["a.jsonl"])  # any file of rankings or ratings; records.py lists the keys read
    print(report.text()); report.to_json()

records.py   reads rankings and ratings from JSONL, with errors that name the line
tables.py    lays them out as labels of units, so that every statistic reads one shape
statistics.py  pairwise agreement, Kendall tau-b, Krippendorff alpha, Cohen and Fleiss kappa
report.py    puts the figures together, and as JSON
shown.py     says them in tables, or as text

How ties count. Two labelers are compared on every pair of completions of a prompt that both have ranked.
`agreement_strict`: only pairs that both rank strictly; the share that both order the same way.
`agreement_all`: all pairs; a tie agrees with a tie only, a tie against an order is a disagreement.
`agreement_half`: all pairs; a tie against an order counts one half.
The paper (section 3.4: training labelers agree 72.6 ± 1.5 % of the time, held-out labelers 77.3 ± 1.3 %) does not say
how it counts ties, so none of the three is *the* paper's. In each, every comparison of two labelers weighs the same.
"""

from labkit.labels.agreement.records import Records, read_records, records_of
from labkit.labels.agreement.report import Agreement, agreement, agreement_of_files, agreement_of_records

__all__ = [
    "Agreement",
    "Records",
    "agreement",
    "agreement_of_files",
    "agreement_of_records",
    "read_records",
    "records_of",
]
