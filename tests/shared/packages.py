"""Packages that tests install: a folder with a module and the metadata that an installer would write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def make_package(folder: Path, name: str, points: Mapping[str, Mapping[str, str]], code: str = "") -> Path:
    """Return a folder that, once on `sys.path`, looks like an installed package of version 1.2.

    Parameters
    ----------
    folder : Path
        The package's folder is made in it.
    name : str
        Of the package and of its only module.
    points : mapping
        By the entry-point group: the references ``"module:attribute"`` by name.
    code : str
        The module.
    """
    root = folder / name
    info = root / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (root / f"{name}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    lines: list[str] = []
    for group, named in points.items():
        lines += [f"[{group}]", *(f"{entry} = {value}" for entry, value in named.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root
