"""Generated from src/kist/plan/steps.py by tools/gen_steps.py; do not edit."""

TABLE = 0xAED4F0368F1BCF16
