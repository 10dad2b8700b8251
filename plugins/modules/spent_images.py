#!/usr/bin/python
"""Remove the images of an environment that is gone, but for those that others need."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: spent_images
short_description: remove images that nobody needs any more
description:
  - Removes images of this project, but for those that a container has, whosever it is, and those that an image that
    stays is built on.
options:
  name:
    description: The project's name, the first part of its images' names.
    type: str
    required: true
  images:
    description: Images that the environment had; what they are built on is looked at with them. Not given, all of the project.
    type: list
    elements: str
"""

RETURN = """
removed:
  description: Names of the images that were removed.
  type: list
  elements: str
kept:
  description: Names of those that were asked for and stay, because others need them.
  type: list
  elements: str
"""


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "images": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )

    def docker(*words):
        """Return what a docker command printed, or end the module."""
        return module.run_command(["docker", *words], check_rc=True)[1]

    def inspect(kind, names):
        """Return what the engine knows of these objects, of which some may have gone meanwhile."""
        if not names:
            return []
        return json.loads(module.run_command(["docker", kind, "inspect", *names])[1] or "[]")

    reference = f"reference={module.params['name']}/*"
    listed = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", reference)
    # Of more than one name each is a name of its own.
    images = {
        name: image
        for image in inspect("image", sorted({*listed.split()}))
        for name in image["RepoTags"]
        if name in listed.split()
    }
    containers = docker("ps", "--all", "--quiet", "--no-trunc").split()
    used = {item["Image"] for item in inspect("container", containers)}
    layers = {name: image["RootFS"].get("Layers") or [] for name, image in images.items()}

    def below(name, others):
        """Say whether one of the others is this image, or is built on it."""
        return any(layers[other][: len(layers[name])] == layers[name] for other in others)

    given = module.params["images"]
    had = [name for name in images if given is None or name in given]
    asked = {name for name in images if below(name, had)}
    staying = [name for name in images if name not in asked or images[name]["Id"] in used]
    removed = sorted(name for name in asked if not below(name, staying))
    # What is built on others goes before them.
    for name in sorted(removed, key=lambda name: -len(layers[name])):
        if not module.check_mode:
            docker("image", "rm", name)
    module.exit_json(changed=bool(removed), removed=removed, kept=sorted(asked - {*removed}))


if __name__ == "__main__":
    main()
