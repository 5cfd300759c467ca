"""Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."""

TABLE = 0xC843A64BC7FD4696
