"""Tests of the stages built on a Trainer: SFT, PPO init, reward model."""
