"""Supervised fine-tuning on demonstrations (section 3.5), and the model that PPO starts from (appendix C.3).

    demonstrations = [Demonstration(Prompt(id="p0", text="What is a fox?"), " An animal.")]       # labkit.types
    state = start("path/to/model")            # or labkit.world.pretrain.base_path("small"), a base of the world
    for step in loop(state, demonstrations, constant(SFTKnobs()), SFTSettings(), valid=..., reward=rm): ...
    state.save_model("mine")                  # constant, Dial and SFTKnobs are those of labkit.knobs

`loop` is `trl.SFTTrainer` as a generator of Steps. The PPO init is the same loop with `init_settings()`: 2 epochs,
10 % pretraining examples mixed in.
"""

from labkit.sft.data import Pieces, encode_demonstrations, pretraining_pieces
from labkit.sft.epochs import score_epochs, validation_loss, validation_score
from labkit.sft.loop import SFTState, init_loop, loop, start, total_steps
from labkit.sft.settings import SFTSettings, init_settings

__all__ = [
    "Pieces",
    "SFTSettings",
    "SFTState",
    "encode_demonstrations",
    "init_loop",
    "init_settings",
    "loop",
    "pretraining_pieces",
    "score_epochs",
    "start",
    "total_steps",
    "validation_loss",
    "validation_score",
]
