"""Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."""

TABLE = 0xC263FE1AFD288D28
