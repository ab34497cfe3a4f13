"""A `transformers` Trainer as a generator of Steps, so that SFT and the reward model obey the loop contract of PPO.

    for step in steps_of(trainer, state, "sft", schedule): ...

`trainer.py` has the mixin (schedule with a live factor, finite losses, resuming), `meeting.py` the rendezvous of the
trainer's thread with its consumer, `state.py` what a stage changes and how it is snapshot and restored, `one_gpu.py` how it keeps to one GPU.
"""

from labkit.stepwise.meeting import steps_of
from labkit.stepwise.state import TrainState
from labkit.stepwise.trainer import SteppedTrainer, cosine, quiet_arguments, unpatch

__all__ = ["SteppedTrainer", "TrainState", "cosine", "quiet_arguments", "steps_of", "unpatch"]
