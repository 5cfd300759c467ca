"""Write launcher/steps.h and src/kist/plan/_table.py from the step table. Run by `make generate`."""

import hashlib
import re
import sys
from pathlib import Path

from kist.plan.encode import signature, table
from kist.plan.steps import ACTORS, SLOT_NAMES, STEPS

ROOT = Path(__file__).resolve().parent.parent
NOTE = "Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def digest() -> int:
    return int.from_bytes(hashlib.sha256(table().encode()).digest()[:8], "little")


def header() -> str:
    names = [(cls, snake(cls.__name__)) for cls in STEPS]
    lines = [
        f"/* {NOTE} */",
        "#ifndef KIST_STEPS_H",
        "#define KIST_STEPS_H",
        f"#define PLAN_TABLE 0x{digest():016x}UL",
        f"#define MAX_ARGUMENTS {max(len(signature(cls)) for cls in STEPS)}",
        f"#define OP_COUNT {max(cls.op for cls in STEPS) + 1}",
        "",
        "struct argument { unsigned long n; const char *s; };  /* a number or slot; else length or count, and bytes */",
        "",
        "enum actor { "
        + ", ".join(f"ACTOR_{name.upper()} = {i}" for i, name in enumerate(ACTORS))
        + ", ACTOR_COUNT };",
        "enum slot { " + ", ".join(f"SLOT_{name} = {number}" for number, name in SLOT_NAMES.items()) + " };",
        "enum op {",
        *(f"    OP_{name.upper()} = {cls.op}," for cls, name in names),
        "};",
        "extern const char *const op_signature[OP_COUNT];",
        "#define OP_SIGNATURES \\",
        *(f'    [OP_{name.upper()}] = "{signature(cls)}", \\' for cls, name in names),
        "",
        "",
    ]
    for cls, name in names:
        if fields := cls.__fields__:
            lines.append(f"struct {name} {{ struct argument {', '.join(fields)}; }};")
    return "\n".join([*lines, "#endif", ""])


def main() -> int:
    files = {
        ROOT / "launcher/steps.h": header(),
        ROOT / "src/kist/plan/_table.py": f'"""{NOTE}"""\n\nTABLE = 0x{digest():016X}\n',
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stdout.write(f"stale: {path.relative_to(ROOT)}; run: make generate\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
