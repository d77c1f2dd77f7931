"""The line that a person reads about privacy."""

from fedrec_sim.report.table import privacy_line

PRIVACY = {
    "guarantee": "(epsilon, delta)-joint differential privacy",
    "epsilon": 0.9999,
    "accountants": {"pld": 0.9999, "rdp": 1.09},
    "delta": 1e-5,
    "unit": "user",
    "trust": "central",
}


def test_the_line_says_when_the_noise_is_no_secret() -> None:
    secret, seeded = (privacy_line({"seed": seed, "privacy": PRIVACY}) for seed in (None, 0))
    assert "epsilon 0.9999 (PLD 0.9999, RDP 1.09) at delta 1e-05" in secret
    assert "seed" not in secret
    assert seeded.startswith(secret)
    assert seeded.endswith("The noise follows from the seed: anyone with the seed can remove it.")


def test_no_privacy_is_said_plainly() -> None:
    line = privacy_line({"seed": 1, "privacy": PRIVACY | {"guarantee": "none", "epsilon": None}})
    assert line == "Privacy: none. This run releases sums without noise."
