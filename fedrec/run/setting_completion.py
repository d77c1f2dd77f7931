"""The names of a scenario's settings, for the completion of `--set`, and for hints where one is taken for an option."""


def settings_named(incomplete: str) -> list[str]:
    """Every setting whose dotted name begins with `incomplete`."""
    from fedrec.run.scenario import setting_names

    return [name for name in setting_names() if name.startswith(incomplete)]
