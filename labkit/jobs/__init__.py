"""Jobs: one training loop in a background thread, its past on disk, and who waits for it."""

from labkit.jobs.job import Job
from labkit.jobs.owners import running
from labkit.jobs.waiting import StillRunning, by_hand_every, from_a_page, headless_asked

__all__ = ["Job", "StillRunning", "by_hand_every", "from_a_page", "headless_asked", "running"]
