"""In the place of the release's look at the schema: says what the test put into a file, among a project's own words.

What begins with a space is said as releases said it before answers had a name.
"""

from pathlib import Path

reasons = Path("/unfit.json").read_text()
print("a project prints while it is loaded")
print(reasons.strip() if reasons.startswith(" ") else f'{{"unfit": {reasons}}}')
print("level logger message timestamp")
