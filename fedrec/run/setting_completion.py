"""Names of a scenario's settings, for completion of `--set` and for hints where one is mistaken for an option."""


def settings_named(incomplete: str) -> list[str]:
    """Return every setting whose dotted name begins with `incomplete`."""
    from fedrec.run.scenario import setting_names

    return [name for name in setting_names() if name.startswith(incomplete)]
