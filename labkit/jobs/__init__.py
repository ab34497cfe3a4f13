"""Jobs: one training loop in a background thread, its past on disk, and who waits for it.

job.py          the Job: start, pause, step, stop, snapshot; given.py: what it takes; ending.py: how it ends
history.py      rollback, resume and branch; sameness.py: whether a resume or replay is the recorded run
owners.py       no two jobs write one folder; turns.py, threads.py: several jobs in one process
waiting.py      by hand or headless; evaluations.py: what "evaluate now" measured
"""

from labkit.jobs.job import Job
from labkit.jobs.owners import running
from labkit.jobs.waiting import StillRunning, by_hand_every, from_a_page, headless_asked

__all__ = ["Job", "StillRunning", "by_hand_every", "from_a_page", "headless_asked", "running"]
