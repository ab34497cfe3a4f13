"""The lab's library: InstructGPT's method (SFT, reward model, PPO-ptx) with no Jupyter in it.

Importing `labkit` loads the standard library only. torch, transformers and trl are imported by the
modules that need them, so that the command line and the notebooks' word-level parts start at once.
"""

__version__ = "0.1.0"
