"""What `labkit iterate` says of its rounds: gains over the first round, and over as many rankings of the SFT model."""

from labkit.iterate import against_control

ROUNDS = [{"round": 1, "gold": 0.40}, {"round": 2, "gold": 0.42}, {"round": 3, "gold": 0.47}]


def test_the_last_round_is_set_against_the_first_and_against_the_control() -> None:
    said = against_control([*ROUNDS, {"round": "control", "gold": 0.45}])
    assert "round 3" in said and "less round 1: +0.070" in said and "SFT model alone: +0.020" in said


def test_what_is_not_there_is_not_compared() -> None:
    assert "SFT model" not in against_control(ROUNDS)
    assert "round 1: +" not in against_control([ROUNDS[0], {"round": "control", "gold": 0.45}])
    assert "nothing to compare" in against_control(ROUNDS[:1])
