"""Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."""

TABLE = 0xA23F91E06F4BF8CC
