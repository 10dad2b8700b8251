"""Choose what of a Django project enters a release, and say what does not."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
import subprocess
from typing import NamedTuple

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.community.docker.plugins.module_utils._api.utils.build import Pattern
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

DOCUMENTATION = """
name: left_out
short_description: lines that say what of a project does not enter a release
description:
  - Chooses among the files of a project. Left out is what is secret by its name or made again, what a pattern excludes,
    what the project's C(.dockerignore) excludes, and what a C(.gitignore) excludes, unless git tracks it.
  - The first line names what is left out. A line follows for each file of Python that names some of it.
options:
  _terms:
    description: The directory of the project.
    required: true
  exclude:
    description: Patterns, in the syntax of .dockerignore, of what else is left out.
    type: list
    elements: str
    default: []
  include:
    description: Patterns, in the same syntax, of what enters all the same. They are stronger than all the rest.
    type: list
    elements: str
    default: []
"""

RETURN = """
_raw:
  description: The lines; none if nothing worth a word was left out.
  type: list
  elements: str
"""

# Names that are secret, whatever bears them. The last pattern that fits decides; case does not count. README.md has them.
SECRET = """
.env .env.* .env-* .env_* *.env .envrc .envs
!*.example !*.sample !*.template !*.dist !example.env !sample.env !template.env
*.pem *.key *.p12 *.pfx *.jks *.keystore *.ppk *.kdbx
id_rsa* id_dsa* id_ecdsa* id_ed25519* .ssh .gnupg
credentials.json *-credentials.json *_credentials.json service-account*.json service_account*.json
client_secret*.json *-firebase-adminsdk-*.json secrets.json secrets.toml secrets.yaml secrets.yml
.vault-pass* .vault_pass* *.tfstate *.tfstate.* *.tfvars
.netrc .pgpass .my.cnf .pypirc .npmrc .htpasswd .git-credentials .dockercfg .aws .azure .kube
*.dump *.pgdump *.rdb *.bak *.sql.gz *.sql.bz2 *.sql.xz *.sql.zst *.sql.zip
dump*.sql *dump.sql backup*.sql *backup.sql *.sqlite3 *.sqlite3-* .git .hg .svn
""".split()  # noqa: SIM905

# Names of what programs make again where it is needed. So is a directory with a pyvenv.cfg.
MADE = """
node_modules bower_components .venv venv __pycache__ *.pyc *.pyo .tox .nox .eggs .cache .*_cache
.coverage htmlcov .idea .vscode .DS_Store .terraform .vagrant
""".split()  # noqa: SIM905

# What is left out is told in this many names.
_MANY = 12


class Choice(NamedTuple):
    """What enters: the files and links, the directories that hold nothing; what does not, and why."""

    files: list[str]
    folders: list[str]
    left_out: dict[str, str]


def _either(patterns):
    """Return one expression that any of some patterns of names fits."""
    return re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns))


_SECRET = _either(pattern for pattern in SECRET if not pattern.startswith("!"))
_HARMLESS = _either(pattern[1:] for pattern in SECRET if pattern.startswith("!"))
_MADE = _either(MADE)


def _git(source, *arguments):
    """Return what git prints about a directory, as bytes; nothing if it is in no repository, or git is not there."""
    if not shutil.which("git"):
        return b""
    # A hook that deploys has the variables of its own repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", source, *arguments],
        capture_output=True,
        check=False,
        env=environment,
    )
    return done.stdout if done.returncode == 0 else b""


def _lines(path):
    """Return the lines of a file of patterns, none where there is no such file; git follows no link there either."""
    if os.path.islink(path) or not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as handle:
        return [line.rstrip("\r") for line in handle.read().split("\n")]


class _Rules:
    """The patterns of one .gitignore, which sees a place from its own directory on."""

    def __init__(self, path, cut=0):
        self._cut, self._patterns = cut, []
        for line in _lines(path):
            # git takes no notice of a pattern that means nothing.
            with contextlib.suppress(ValueError):
                pattern = GitIgnoreSpecPattern(line)
                if pattern.include is not None:
                    self._patterns.insert(0, (pattern, line.strip().rstrip("/")))

    def __bool__(self):
        return bool(self._patterns)

    def ignore(self, place, directory):
        """Return whether git ignores what it does not track there: the last pattern that fits decides; None: none fits.

        A pattern fits the place itself; what lies in a directory that one fits is nobody's question.
        """
        place = place[self._cut :]
        whole = place + "/" * directory
        for pattern, text in self._patterns:
            if "/" not in text:
                match = pattern.match_file(os.path.basename(place) + "/" * directory)
            elif text.endswith("/**"):
                match = pattern.match_file(place)
            else:
                match = pattern.match_file(whole)
                match = match and match.match.end() == len(whole)
            if match:
                return pattern.include
        return None


def _ignored(place, directory, rules):
    """Return whether git ignores what it does not track: the nearest rules that know decide."""
    said = (rule.ignore(place, directory) for rule in reversed(rules))
    return next((answer for answer in said if answer is not None), False)


class _Walk:
    """One walk through a project, which does not go into what is left out."""

    def __init__(self, source, exclude, include):
        self.choice = Choice([], [], {})
        self._source = source
        ignored = [line.strip() for line in _lines(os.path.join(source, ".dockerignore"))]
        ignored = [line for line in ignored if line and not line.startswith("#")]
        self._patterns = [(Pattern(text), "django_web_exclude") for text in exclude]
        self._patterns += [(Pattern(text), ".dockerignore") for text in ignored]
        self._negated = any(pattern.exclusion for pattern, _origin in self._patterns)
        # "dist/**" names the directory, and not each file in it by its own name.
        named = (Pattern(re.sub(r"(/\*{1,2})+/?$", "", text)) for text in include)
        self._include = [pattern for pattern in named if pattern.dirs]
        self._tracked, self._prefix, rules, mode = self._repository()
        self._walk("", mode, rules, [False] * len(self._patterns))

    def _repository(self):
        """Return (the tracked files with the directories above them, the source's place, the rules above it, its mode)."""
        listed = _git(self._source, "ls-files", "-z", "--cached", "--recurse-submodules")
        tracked = {os.fsdecode(name) for name in listed.split(b"\0") if name}
        # Where git tracks nothing of it, the repository is somebody else's.
        if not tracked:
            return tracked, "", [], "open"
        for name in list(tracked):
            while (name := os.path.dirname(name)) and name not in tracked:
                tracked.add(name)
        answer = _git(self._source, "rev-parse", "--show-prefix", "--git-path", "info/exclude")
        prefix, own = (os.fsdecode(line) for line in answer.split(b"\n")[:2])
        above = [part for part in prefix.split("/") if part]
        place = os.path.join(self._source, *[".."] * len(above))
        rules, mode = [_Rules(os.path.join(self._source, own))], "open"
        for depth, part in enumerate(above):
            cut = sum(len(name) + 1 for name in above[:depth])
            rules.append(_Rules(os.path.join(place, ".gitignore"), cut))
            if _ignored("/".join(above[: depth + 1]), True, rules):
                mode = "tracked"
            place = os.path.join(place, part)
        return tracked, prefix, rules, mode

    def _excluded(self, fits):
        """Return the origin of the pattern that leaves a place out, if the last that fits does so."""
        for (pattern, origin), fit in zip(reversed(self._patterns), reversed(fits), strict=True):
            if fit:
                return "" if pattern.exclusion else origin
        return ""

    def _leads(self, folder):
        """Return whether a pattern names something below a directory that is left out; ** names nothing there."""
        words = folder.lower().split("/")
        return any(
            len(pattern.dirs) > len(words)
            and all(
                wanted != "**" and fnmatch.fnmatchcase(word, wanted.lower())
                for word, wanted in zip(words, pattern.dirs, strict=False)
            )
            for pattern in self._include
        )

    def _judge(self, entry, place, directory, mode, rules, fits):
        """Return (why it does not enter, if so; the mode of what is below it)."""
        name = entry.name.lower()
        if any(pattern.match(place) for pattern in self._include):
            return "", "included"
        if _SECRET.match(name) and not _HARMLESS.match(name):
            return "secret", "named"
        if mode == "included":
            return "", mode
        if _MADE.match(name) or (directory and os.path.exists(f"{entry.path}/pyvenv.cfg")):
            return "made", "named"
        if mode == "named":
            return mode, mode
        if why := self._excluded(fits):
            return why, mode
        tracked = place in self._tracked
        if tracked and not directory:
            return "", mode
        if mode != "tracked" and not _ignored(self._prefix + place, directory, rules):
            return "", mode
        return ("", "tracked") if tracked else (".gitignore", "named")

    def _walk(self, folder, mode, rules, fitted, enters=True):
        """Choose below one directory; return whether something enters there, or an empty directory would matter.

        mode: what enters there. open: what nothing leaves out; tracked: what git tracks; included: all but what is secret;
        named: only what a pattern names. fitted: which patterns of exclusion fit a directory above. enters: whether the
        directory itself does.
        """
        path = os.path.join(self._source, folder)
        if own := _Rules(
            os.path.join(path, ".gitignore"), len(self._prefix + folder) + bool(folder)
        ):
            rules = [*rules, own]
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            raise AnsibleLookupError(unreadable(path, error)) from error
        before = len(self.choice.files) + len(self.choice.folders)
        stale = bool(entries)
        for entry in entries:
            place = f"{folder}/{entry.name}" if folder else entry.name
            directory = entry.is_dir(follow_symlinks=False)
            if not directory and not entry.is_symlink() and not entry.is_file():
                continue  # a socket, a pipe
            fits = [
                fit or pattern.match(place)
                for fit, (pattern, _origin) in zip(fitted, self._patterns, strict=True)
            ]
            why, below = self._judge(entry, place, directory, mode, rules, fits)
            if why and enters:
                self.choice.left_out[place + "/" * directory] = why
            if not why and not directory:
                self.choice.files.append(place)
            kept = entry.name != "__pycache__"
            again = self._negated and below != "named"
            if directory and (not why or again or self._leads(place)):
                kept = self._walk(place, below, rules, fits, not why)
            stale = stale and not kept
        if before < len(self.choice.files) + len(self.choice.folders):
            return True
        # Another branch's code leaves directories of which only Python's cache is left.
        if enters and not stale and folder:
            self.choice.folders.append(folder)
        return not stale


def unreadable(path, error):
    """Return what to say of a path that can't be read."""
    return (
        f"{path} can't be read: {error.strerror}. Let the one who runs this read it, or leave it out with"
        " django_web_exclude."
    )


def choose(source, exclude=(), include=()):
    """Return what of a project enters a release, as a Choice of paths below it.

    Raise AnsibleLookupError for what can't be read.
    """
    return _Walk(source, exclude, include).choice


def _mentions(source, choice):
    """Yield (a file of Python, a place left out that it names), each once."""
    # What a program makes again is nobody's file, but for what npm has installed.
    told = [place for place, why in choice.left_out.items() if worth(place, why)]
    names = {}
    for place in told:
        names.setdefault(os.path.basename(place.rstrip("/")), place)
    if not names:
        return
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    quoted = re.compile(rf"""["'](?:[^"'\n]*/)?({either})/?["']""")
    for place in choice.files:
        path = os.path.join(source, place)
        if not place.endswith(".py") or os.path.islink(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as lines:
            # STATIC_ROOT and MEDIA_ROOT are written to, not read.
            text = "".join(line for line in lines if "_ROOT" not in line)
        for name in sorted(set(quoted.findall(text))):
            yield place, names[name]


def worth(place, why):
    """Return whether it is worth a word that a place is left out."""
    if why == "made":
        return place.rstrip("/").endswith(("node_modules", "bower_components"))
    silent = (".git", ".hg", ".svn", ".gitignore", ".dockerignore")
    return os.path.basename(place.rstrip("/")) not in silent


class LookupModule(LookupBase):
    """Implements C(left_out)."""

    # The lookup build_context takes from here what enters.
    choose, unreadable = staticmethod(choose), staticmethod(unreadable)
    SECRET, MADE = SECRET, MADE

    def run(self, terms, variables=None, **kwargs):
        """Return the lines; raise AnsibleLookupError for what can't be read."""
        self.set_options(var_options=variables, direct=kwargs)
        (source,) = terms
        choice = choose(source, *map(self.get_option, ("exclude", "include")))
        told = [f"{place} ({why})" for place, why in choice.left_out.items() if worth(place, why)]
        if not told:
            return []
        more = f" and {len(told) - _MANY} more" if len(told) > _MANY else ""
        lines = [f"Not in the release: {', '.join(told[:_MANY])}{more}."]
        for place, left in _mentions(source, choice):
            lines.append(
                f"{place} names {left}, which is not in the release: if it is needed there, add it to django_web_include."
            )
        return [line.encode(errors="replace").decode() for line in lines]
