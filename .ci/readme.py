"""Print one of the README's two Quick-start commands without its `git clone` and `cd` lines: `readme.py run|test`."""

import re
import sys
from pathlib import Path

readme = (Path(__file__).parent.parent / "README.md").read_text()
section = readme.split("## Quick start", 1)[1].split("\n## ", 1)[0]
blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", section, re.DOTALL)
assert len(blocks) == 2, f"the Quick start must hold exactly two fenced commands, not {len(blocks)}"
lines = blocks[{"run": 0, "test": 1}[sys.argv[1]]].splitlines()
print("\n".join(line for line in lines if not re.match(r"(git clone|cd )", line)))
