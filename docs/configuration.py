"""Writes docs/configuration.md from the docstrings of the settings: ``python docs/configuration.py``.

A test holds the page to the code, so it never says what is no longer true.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any, get_args

from pydantic_core import PydanticUndefined

from qc_node import config
from qc_node.config import settings

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """\
# Configuration

<!-- Written by docs/configuration.py from qc_node/config/settings.py; change it there. -->

qc-node reads one TOML file: the one after `--config`, else `./qc-node.toml`, else `/etc/qc-node/qc-node.toml`.
Without any it starts with the defaults below: everything on loopback, data in `./qc-node-data`.
[`deploy/qc-node.toml`](../deploy/qc-node.toml) is a file to start from, with every option explained where it
stands; `qc-node doctor` checks a file and everything it names.

**The environment overrides the file**: `QC_NODE_SECTION__KEY`, with two underscores between section and key, such
as `QC_NODE_NODE__PORT=104`, `QC_NODE_COMPLETION__ASK_PACS=false` or
`QC_NODE_WEB__FRAME_ANCESTORS='["https://pacs.example"]'`. The lists of tables `[[peer]]` and `[[rule]]` are
replaced as a whole by `QC_NODE_PEER`, `QC_NODE_SCANNER`, `QC_NODE_NOTIFY` and `QC_NODE_RULE`, in JSON.

**What is not understood is refused.** An unknown key, a wrong type or values that contradict each other stop every
command with one sentence that names the file, the line and the key, or the environment variable:

```
qc-node: The configuration qc-node.toml, line 4: unknown key [node] prot (did you mean port?).
```

Times are in seconds unless the name says otherwise (`_h` hours, `_days` days), sizes in 10^9 bytes (`_gb`).
"""


def docstrings() -> dict[str, tuple[str, dict[str, str]]]:
    """For each section class its docstring, and the docstring of each key."""
    tree = ast.parse(Path(settings.__file__).read_text(encoding="utf-8"))
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        keys: dict[str, str] = {}
        for field, text in zip(node.body, node.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                keys[field.target.id] = _flow(str(text.value.value))
        found[node.name] = (_flow(ast.get_docstring(node) or ""), keys)
    return found


def _flow(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("``", "`")


def _default(name: str, info: Any) -> str:
    if name == "models_dir":
        return "the shipped ones"
    if info.default is PydanticUndefined:
        return "*required*"
    value = info.default
    if value is None or value == "":
        return "none"
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return f"`{json.dumps(value)}`"


def _choices(info: Any) -> str:
    values = [v for v in get_args(info.annotation) if isinstance(v, str)]
    return f" One of {', '.join(f'`{v}`' for v in values)}." if values else ""


def page() -> str:
    """The whole page."""
    texts = docstrings()
    parts = [HEAD]
    for section, model in config.sections().items():
        summary, keys = texts[model.__name__]
        name, _, rest = summary.partition(": ")
        parts.append(f"\n## {name}\n\n{rest[0].upper()}{rest[1:]}\n\n| key | default | meaning |\n|---|---|---|\n")
        for key, info in model.model_fields.items():
            meaning = keys[key] + ("" if "`" in keys[key] else _choices(info))
            escaped = meaning.replace("|", "\\|")
            parts.append(f"| `{key}` | {_default(key, info)} | {escaped} |\n")
        if section in config.LISTS:
            parts.append(f"\nEnvironment: `{config.variable_name(section)}`, a JSON array of objects.\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
