"""In the place of the release's look at the schema: says what the test put into a file, among a project's own words."""

from pathlib import Path

print("a project prints while it is loaded")
print(f'{{"unfit": {Path("/unfit.json").read_text()}}}')
print("level logger message timestamp")
