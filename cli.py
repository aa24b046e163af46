"""Launch the planner from a checkout: ``python cli.py plan llama-3.1-70b dgx-h100 --devices 256``."""

from planner.__main__ import main

if __name__ == "__main__":
    main()
