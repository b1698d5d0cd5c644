"""CODEOWNERS, slowly and obviously: every rule of the documentation as a few lines, every lookup through the whole file."""

from typing import NamedTuple


class Line(NamedTuple):
    pattern: str
    owners: tuple[str, ...]
    number: int
    section: str = ""
    excludes: bool = False


# -- GitHub: as .gitignore does it -------------------------------------------------------------------------------------


def github_matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches a file: it names the file, or a folder above it."""
    only_folders = pattern.endswith("/")
    body = pattern.rstrip("/") if only_folders else pattern
    anchored = "/" in body
    wanted = body.removeprefix("/").split("/")
    if not anchored:
        wanted = ["**", *wanted]
    parts = path.split("/")
    # The one place where it is not .gitignore: `docs/*` means the files right there, and no folder's contents.
    lone_star = wanted[-1] == "*" and anchored and not only_folders
    for end in range(1, len(parts) + 1):
        is_file = end == len(parts)
        if only_folders and is_file:
            continue
        if lone_star and not is_file:
            continue
        if segments_match(wanted, parts[:end], is_file):
            return True
    # `**/` and `x/**/`: everything in that folder, which may be the root itself.
    return wanted[-1] == "**" and only_folders and segments_match(wanted[:-1], [], False)


def segments_match(wanted: list[str], parts: list[str], is_file: bool) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        if len(wanted) == 1:
            return (is_file and bool(parts)) or not is_file  # what is inside, never the folder alone: that is the same files
        return any(segments_match(wanted[1:], parts[skip:], is_file) for skip in range(len(parts) + 1))
    return bool(parts) and glob_matches(wanted[0], parts[0], sets=False) and segments_match(wanted[1:], parts[1:], is_file)


def github_find(lines: list[Line], path: str) -> Line | None:
    """The last matching line wins."""
    found = None
    for line in lines:
        if github_matches(line.pattern, path):
            found = line
    return found


# -- GitLab: as Ruby's File.fnmatch(pattern, path, FNM_PATHNAME | FNM_DOTMATCH) does it --------------------------------


def gitlab_matches(pattern: str, path: str) -> bool:
    if pattern == "*":
        return True
    if not pattern.startswith("/"):
        pattern = "/**/" + pattern
    if pattern.endswith("/"):
        pattern += "**/*"
    return fnmatch(pattern.split("/")[1:], path.split("/"))


def fnmatch(wanted: list[str], parts: list[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**" and len(wanted) > 1:  # `**/`; at the end it is an ordinary star
        return any(fnmatch(wanted[1:], parts[skip:]) for skip in range(len(parts) + 1))
    return bool(parts) and glob_matches(wanted[0], parts[0], sets=True) and fnmatch(wanted[1:], parts[1:])


def gitlab_find(lines: list[Line], path: str) -> list[Line]:
    """For each section its last matching line, unless an exclusion there matches."""
    winners = []
    for section in dict.fromkeys(line.section for line in lines):
        matching = [line for line in lines if line.section == section and gitlab_matches(line.pattern, path)]
        if matching and not any(line.excludes for line in matching):
            winners.append(matching[-1])
    return sorted(winners, key=lambda line: line.number)


# -- one segment -------------------------------------------------------------------------------------------------------


def glob_matches(glob: str, name: str, *, sets: bool) -> bool:
    if not glob:
        return not name
    head, rest = glob[0], glob[1:]
    if head == "*":
        return glob_matches(rest, name, sets=sets) or (bool(name) and glob_matches(glob, name[1:], sets=sets))
    if head == "\\" and rest:
        return name[:1] == rest[0] and glob_matches(rest[1:], name[1:], sets=sets)
    if head == "[" and sets:
        end = rest.find("]", 1)
        if end < 0 or not name:
            return False
        inside, negated = (rest[1:end], True) if rest[0] in "!^" else (rest[:end], False)
        return (name[0] in members(inside)) is not negated and glob_matches(rest[end + 1 :], name[1:], sets=sets)
    return bool(name) and head in ("?", name[0]) and glob_matches(rest, name[1:], sets=sets)


def members(inside: str) -> set[str]:
    found = set()
    while inside:
        if len(inside) > 2 and inside[1] == "-":
            found |= {chr(code) for code in range(ord(inside[0]), ord(inside[2]) + 1)}
            inside = inside[3:]
        else:
            found.add(inside[0])
            inside = inside[1:]
    return found
