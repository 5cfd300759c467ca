"""Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."""

TABLE = 0xF15A579046A9A7F8
