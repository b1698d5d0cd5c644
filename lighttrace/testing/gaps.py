"""Tests of a kit that an integration declares it cannot pass. They are not run, and are listed with their reasons."""

declared: dict[str, str] = {}
"""`TestClass.test_name`: why not."""


def declare(kit: type, unsupported: dict[str, str]) -> None:
    """Take tests out of `kit`. TypeError for one that it does not have: a gap that was closed must not stay declared."""
    for name, reason in unsupported.items():
        if not callable(getattr(kit, name, None)):
            raise TypeError(f"{kit.__name__} declares {name} as unsupported, and has no such test")
        setattr(kit, name, None)
        declared[f"{kit.__name__}.{name}"] = reason
