"""Labels: the log of what a labeler did, the session on top of it, agreement statistics, import and export.

store.py      the append-only event log, one file per labeler; state.py says what its events amount to
session.py    LabelSession: which card is next, draft, submit, undo, warnings, progress; knows no view
tasks.py      prompts with completions in a labeler's own order, models hidden; cards.py: drawn once and kept
reports.py    echo, contradictions, progress, position bias and self-consistency of a session; remarks.py: notes and reasons
disagreement.py  cards on which a reward model contradicts a labeler; beside_rm.py: how unsure it is of a card
intervals.py  the bootstrap by prompt that every statistic shares
screening.py  the paper's test for candidates, on any stored labels
agreement/    pairwise agreement, Kendall, Krippendorff, Cohen, Fleiss, each with an interval
exchange/     export K-wise and as pairs; import of HH, TRL, Argilla and Label Studio files
"""
