"""Print one of the README's two Quick-start commands: `readme.py run|test`."""

import re
import sys
from pathlib import Path

readme = (Path(__file__).parent.parent / "README.md").read_text()
section = readme.split("## Quick start", 1)[1].split("\n## ", 1)[0]
blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
assert [block.count("\n") for block in blocks] == [1, 1], "the Quick start must hold exactly two commands of one line"
print(blocks[{"run": 0, "test": 1}[sys.argv[1]]], end="")
