"""Faults to plant: every small change of an expression in the physics, and the import of a module that has one.

Texts, annotations, what is raised and what only names an axis or an index are left alone: no answer comes from them.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
FOLDERS = ("demand", "supply", "cost")
ARITHMETIC: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
                                ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult}  # fmt: skip
COMPARISON: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}  # fmt: skip
NAMES = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "ceil": "floor", "floor": "ceil",
         "argmax": "argmin", "argmin": "argmax", "any": "all", "all": "any", "zeros": "ones", "ones": "zeros",
         "zeros_like": "ones_like", "ones_like": "zeros_like"}  # fmt: skip
PASSES_ARGUMENT = {"minimum", "maximum", "min", "max", "ceil", "floor", "round", "sqrt", "log2", "abs"}
UNTOUCHED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)
PLAIN_KEYWORDS = {"axis", "dtype", "maxsize", "frozen", "kind"}  # of numpy, dataclass and lru_cache: no physics


@dataclass(frozen=True)
class Mutant:
    """One fault: ``before`` in a ``function`` of a ``file`` becomes ``after``; ``nth`` of its kind there.

    ``node`` and ``choice`` find it again in the tree, ``first`` and ``last`` are the lines of its statement.
    """

    file: str
    function: str
    before: str
    after: str
    nth: int
    node: int
    choice: int
    first: int
    last: int

    @property
    def change(self) -> str:
        return f"`{self.before}` -> `{self.after}`" + (f" #{self.nth}" if self.nth > 1 else "")

    @property
    def key(self) -> str:
        return f"{self.file}::{self.function}: {self.change}"

    @property
    def module(self) -> str:
        return module_of(self.file)

    def source(self) -> ast.Module:
        """The tree of the file with the fault in it."""
        tree = ast.parse((ROOT / self.file).read_text())
        sites = list(_sites(tree))
        site = sites[self.node]
        _put(site, list(replacements(site.node))[self.choice])
        return ast.fix_missing_locations(tree)


@dataclass(frozen=True)
class Site:
    """A node with what holds it, the function around it and the lines of its statement."""

    node: ast.expr | ast.stmt
    parent: ast.AST
    field: str
    index: int | None
    function: str
    first: int
    last: int


def physics() -> list[Path]:
    """The files that faults are planted in."""
    return sorted(p for f in FOLDERS for p in (ROOT / "planner" / f).glob("*.py") if p.name != "__init__.py")


def module_of(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def all_mutants() -> list[Mutant]:
    """Every fault that can be planted, in the order of the source."""
    return [m for path in physics() for m in _mutants_of(path.relative_to(ROOT).as_posix())]


def sample(mutants: Sequence[Mutant], *, n: int, seed: int) -> list[Mutant]:
    """``n`` of them, drawn by the hash of what they change: a change elsewhere leaves the draw as it is."""
    return sorted(mutants, key=lambda m: hashlib.sha256(f"{seed}|{m.key}".encode()).hexdigest())[:n]


def _mutants_of(file: str) -> Iterator[Mutant]:
    seen: Counter[tuple[str, str, str]] = Counter()
    for i, site in enumerate(_sites(ast.parse((ROOT / file).read_text()))):
        before = _text(site.node)
        for choice, new in enumerate(replacements(site.node)):
            same = (site.function, before, _text(new))
            seen[same] += 1
            yield Mutant(file, *same, seen[same], i, choice, site.first, site.last)


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 110 else f"{text[:100]} [{hashlib.sha256(text.encode()).hexdigest()[:6]}]"


def _sites(tree: ast.Module) -> Iterator[Site]:
    """Nodes that may change, in a fixed order."""

    def walk(node: ast.AST, function: str, lines: tuple[int, int]) -> Iterator[Site]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".removeprefix("module.")
        for field, value in ast.iter_fields(node):
            if _is_plain(node, field):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if not isinstance(child, ast.AST) or isinstance(child, UNTOUCHED):
                    continue
                here = (child.lineno, child.end_lineno or child.lineno) if isinstance(child, ast.stmt) else lines
                if isinstance(child, ast.expr | ast.stmt):
                    own = here if not hasattr(child, "body") else (child.lineno, child.lineno)
                    yield Site(child, node, field, index, function, *(own if isinstance(child, ast.stmt) else here))
                yield from walk(child, function, here)

    yield from walk(tree, "module", (1, 1))


def _is_plain(node: ast.AST, field: str) -> bool:
    """Parts without physics: annotations, decorators, indices, keywords that shape an array."""
    return (
        field in ("annotation", "returns", "decorator_list", "type_params", "bases", "keywords")
        and not isinstance(node, ast.Call)
    ) or (
        (isinstance(node, ast.Subscript) and field == "slice")
        or (isinstance(node, ast.keyword) and node.arg in PLAIN_KEYWORDS)
        or (isinstance(node, ast.If) and field == "body" and _text(node.test) == "TYPE_CHECKING")
    )


def _put(site: Site, new: ast.AST) -> None:
    ast.copy_location(new, site.node)
    if site.index is None:
        setattr(site.parent, site.field, new)
    else:
        getattr(site.parent, site.field)[site.index] = new


def replacements(node: ast.expr | ast.stmt) -> Iterator[ast.AST]:
    """What a node may become."""
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _is_text(node):
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        yield node.left
        if isinstance(node.op, ast.Add | ast.Mult):
            yield node.right
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from (ast.Compare(node.left, [op()], node.comparators) for op in COMPARISON[type(node.ops[0])])
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        yield from (v for v in node.values if len(node.values) == 2)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(v) for v in _other_values(node.value))
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Call):
        yield from _other_calls(node)
    elif isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
        yield ast.Pass()
    elif isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
        changed = copy.copy(node)
        changed.test = ast.UnaryOp(ast.Not(), node.test)
        yield changed


def _is_text(node: ast.BinOp) -> bool:
    parts = (n for side in (node.left, node.right) for n in ast.walk(side))
    return any(isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
               for n in parts) and isinstance(node.op, ast.Add)  # fmt: skip


def _other_values(value: object) -> list[bool | int | float]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float) and abs(value) < 1e12:
        return [value * 1.25, value * 0.8] if value else [1.0]
    return []


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """Another function of the same arguments, one of the arguments alone, or the branches of np.where swapped."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in NAMES:
        other = copy.copy(node.func)
        setattr(other, "attr" if isinstance(other, ast.Attribute) else "id", NAMES[name])
        yield ast.Call(other, node.args, node.keywords)
    if name == "where" and len(node.args) == 3:
        condition, left, right = node.args
        yield ast.Call(node.func, [condition, right, left], node.keywords)
        yield from (left, right)
    elif name in PASSES_ARGUMENT and node.args and not any(isinstance(a, ast.Starred) for a in node.args):
        yield from node.args[:2]


@dataclass(frozen=True)
class Planted(MetaPathFinder, Loader):
    """Imports one module with its fault in it, and leaves the rest to Python."""

    mutant: Mutant

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != self.mutant.module:
            return None
        return spec_from_loader(fullname, self, origin=str(ROOT / self.mutant.file))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(ROOT / self.mutant.file)
        exec(compile(self.mutant.source(), module.__file__, "exec"), module.__dict__)

    def install(self) -> None:
        """Take the module's next import."""
        sys.meta_path.insert(0, self)
