"""Which images have to be made, and in which order."""

from __future__ import annotations

DOCUMENTATION = """
name: images_to_make
short_description: the images that are lacking, in steps of which each needs only those before it
description:
  - An image that containers run is made where it is not there. One that others are built on, and nothing else runs, is
    made where one of these is, or where all are wanted.
  - The images of a step need none of each other, so they can be made side by side. In a step those come first that
    images of later steps are built on, and those last that no site waits for.
options:
  _input:
    description: Declarations by key, as the role image takes them, each with its reference.
    type: dict
    required: true
  present:
    description: The references of the images that are there.
    type: list
    elements: str
    required: true
  everything:
    description: Whether images that nothing runs are wanted for themselves, such as for an archive.
    type: bool
    default: false
"""

RETURN = """
_value:
  description: The keys, step by step; empty if nothing is lacking.
  type: list
  elements: list
"""


def images_to_make(images, present, everything=False):
    """Return the keys of the images to make, in steps."""
    absent = [key for key, image in images.items() if image["reference"] not in present]
    lacking = [key for key in absent if everything or images[key].get("runs", True)]
    for key in lacking:
        base = images[key].get("base")
        if base in absent and base not in lacking:
            lacking.append(base)
    awaited = {images[key].get("base") for key in lacking}
    steps = {}
    for key in sorted(lacking, key=lambda key: _turn(key, images, awaited)):
        steps.setdefault(_bases(key, images, lacking), []).append(key)
    return [steps[step] for step in sorted(steps)]


def _turn(key, images, awaited):
    """Return what sorts the images of a step: what others are built on, then what a site waits for, then the rest."""
    return key not in awaited, not images[key].get("awaited", True), [*images].index(key)


def _bases(key, images, lacking):
    """Return how many images have to be made before this one, each on the other."""
    base = images[key].get("base")
    return 1 + _bases(base, images, lacking) if base in lacking else 0


class FilterModule:
    """The filter's name."""

    def filters(self):
        """Return it with its function."""
        return {"images_to_make": images_to_make}
