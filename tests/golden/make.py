"""Make golden files anew: `python -m tests.golden.make [NAME ...]`, all of them without a name.

A change of numbers is meant or it is a fault: make a file anew only for the algorithm whose numbers should change, and
say so in the commit.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from fedrec.audit.log.keys import KEY_VARIABLE, new_key
from tests.golden.runs import FILES, NAMES, make


def main(names: list[str]) -> None:
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"error: no golden run called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    FILES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        key = Path(temporary) / "key.pem"
        new_key(key)
        os.environ[KEY_VARIABLE] = str(key)
        for name in names or NAMES:
            folder = Path(temporary) / name
            folder.mkdir()
            found = make(name, folder)
            text = json.dumps(found, indent=1, sort_keys=False, allow_nan=False)
            (FILES / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            shutil.copyfile(folder / "run/release/model/model.safetensors", FILES / f"{name}.safetensors")
            print(name)


if __name__ == "__main__":
    main(sys.argv[1:])
