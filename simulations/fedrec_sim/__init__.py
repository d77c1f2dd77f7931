"""Simulation: a federation in one process, scenarios, plots and benchmarks."""
