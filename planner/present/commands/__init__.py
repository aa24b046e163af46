"""The verbs: a file each, with ``flags``, which declares them, and a function of its name, which shows its answer.

A file put here is a verb; nothing else lists them. Its function's docstring is its help, ``EXAMPLES`` end it. What a
verb needs beyond ``planner.present.flags`` and ``console`` is imported when it runs: ``planner --help`` stays quick.
"""
