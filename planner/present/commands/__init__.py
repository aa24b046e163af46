"""The verbs: a file each, a function of its name that declares its flags and shows its answer.

A file put here is a verb; nothing else lists them. What a verb needs beyond ``typer`` is imported when it runs, so
that ``planner --help`` stays quick.
"""
