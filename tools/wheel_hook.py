"""Puts the lessons into a wheel, so that an installed Engine Room has a course to open.

An editable install finds ``notebooks/`` in the checkout; a copy beside it would go stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WheelHook(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            return
        for name in filter(lambda n: Path(self.root, n).is_dir(), ("notebooks", "labconfig")):
            build_data["force_include"][str(Path(self.root, name))] = f"engineroom/_course/{name}"
