"""What import-linter cannot see: sizes, attribute keys, and who imports the public face.

    python tools/check_architecture.py

Prints each finding as `file:line: what is wrong` and exits 1 if there is one.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lighttrace"
INTEGRATION_LINES = 60

ABOVE_THE_FACE = ("cli", "testing", "_bootstrap")
"""What may `import lighttrace`, as a program does. Anything lower would turn the layers upside down."""

OPENERS = {"open", "print", "input", "breakpoint", "__import__", "exec", "eval"}
"""Built-in functions that a module without I/O does not call."""


def attribute_keys() -> set[str]:
    """Every attribute key in semconv.py, today's and old ones. Those without a dot are ordinary words elsewhere."""
    found = set()
    for node in ast.walk(parse(PACKAGE / "semconv.py")):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value and " " not in node.value.strip():
            found.add(node.value)
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def docstrings(tree: ast.Module) -> set[int]:
    """The ids of string constants that stand as a statement of their own: docstrings."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def check_keys(path: Path, tree: ast.Module, keys: set[str]) -> Iterator[tuple[int, str]]:
    """Attribute keys outside semconv.py."""
    ignored = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in ignored:
            value = node.value.decode("ascii", "replace") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str) and value in keys:
                yield node.lineno, f"the attribute key {value!r} stands in lighttrace/semconv.py; use its name"


def check_size(path: Path) -> Iterator[tuple[int, str]]:
    """Integrations only translate, so they are short."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if path.parent.name == "integrations" and lines > INTEGRATION_LINES:
        yield lines, f"an integration has at most {INTEGRATION_LINES} lines; what is more belongs to lighttrace/instrument/"


def check_face(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports of `lighttrace` itself, which loads everything."""
    relative = path.relative_to(PACKAGE)
    if relative.parts[0] in ABOVE_THE_FACE:
        return
    modules = {found.stem for found in PACKAGE.glob("*.py")} | {found.name for found in PACKAGE.iterdir() if found.is_dir()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name == "lighttrace" for alias in node.names):
            yield node.lineno, "`import lighttrace` is for programs; import the module that is needed"
        elif isinstance(node, ast.ImportFrom) and node.module == "lighttrace" and not node.level:
            for alias in node.names:
                if alias.name not in modules:
                    yield node.lineno, f"`from lighttrace import {alias.name}` is for programs; import the module that is needed"


def check_purity(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The analysis is pure; import-linter sees the imports, this the built-in functions."""
    if path.relative_to(PACKAGE).parts[0] != "analysis":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OPENERS:
            yield node.lineno, f"the analysis does no I/O, and this calls {node.func.id}()"


def main() -> int:
    """Check every file of the package and give the exit code."""
    keys = attribute_keys()
    findings = 0
    files = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "semconv.py")
    for path in files:
        tree = parse(path)
        for check in (check_keys(path, tree, keys), check_size(path), check_face(path, tree), check_purity(path, tree)):
            for line, message in check:
                findings += 1
                print(f"{path.relative_to(ROOT)}:{line}: {message}")
    print(f"{len(files)} files, {len(keys)} attribute keys: {findings or 'no'} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
