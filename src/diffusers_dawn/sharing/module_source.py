"""Read modules as text: their imports, and statements that can be moved into other files."""

import ast
import importlib.util
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache

# diffusers imports what it finds by regular expressions at the start of lines before it runs a file of a repository,
# also inside functions. Its expression for `import name` ends with the line, so a comment keeps it from that.
LAZY_IMPORT = "  # when it is needed"


@dataclass(frozen=True)
class ImportedName:
    """A name imported from another package.

    Attributes:
        name: What it is called here.
        module: The module that is imported, or imported from.
        member: What is imported from it; empty for `import module` and `import module as name`.
    """

    name: str
    module: str
    member: str = ""

    @property
    def meaning(self) -> str:
        """What the name stands for, in full."""
        if self.member:
            return f"{self.module}.{self.member}"
        return self.name if self.name == self.module.split(".")[0] else self.module


@dataclass(frozen=True)
class Statement:
    """A statement of a module's top level.

    Attributes:
        text: Its lines with the comments above, without imports of its own package.
        binds: Names that it defines.
        uses: Names that it mentions, also in annotations that are strings.
        needs: Those that must mean something when Python comes to the statement: not those in bodies of functions.
        runs: Those of `needs` that are called then, whose own bodies must work by then.
        is_block: Whether it is longer than an assignment or an expression: a class, a function, a condition.
        num_blank_above: Empty lines above it.
    """

    text: str
    binds: frozenset[str]
    uses: frozenset[str]
    needs: frozenset[str]
    runs: frozenset[str]
    is_block: bool
    num_blank_above: int


@dataclass
class ModuleSource:
    """What a module consists of.

    Attributes:
        name: Full name.
        docstring: Its docstring as it stands in the source, with its quotes.
        futures: Features imported from `__future__`.
        imports: Names imported from other packages.
        typing_imports: Those imported only for type checkers.
        origins: Name to the module of this package that it is imported from, at the top or inside a function.
        statements: All else, in order.
    """

    name: str
    docstring: str = ""
    futures: set[str] = field(default_factory=set)
    imports: list[ImportedName] = field(default_factory=list)
    typing_imports: list[ImportedName] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)


def read_module(name: str, left_out: Collection[str] = ()) -> ModuleSource:
    """Read the source of a module.

    Args:
        name: Full name.
        left_out: Methods that do not count, as "Class.method".

    Returns:
        Its parts.

    Raises:
        ValueError: It is a package or does not exist, or an import is of a form that cannot be left out or moved.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is not None:
        raise ValueError(f"`{name}` must be a module that exists, not a package")
    return _parse(name, spec.loader.get_source(name), tuple(left_out))


@cache  # most files of a saved pipeline hold the same modules
def _parse(name: str, source: str, left_out: tuple[str, ...]) -> ModuleSource:
    lines = source.splitlines()
    module = ModuleSource(name)
    end = 0
    for position, node in enumerate(ast.parse(source).body):
        first, end = end, node.end_lineno
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Import | ast.ImportFrom):
            _read_import(node, module, module.imports)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for inner in node.body:
                _read_import(inner, module, module.typing_imports)
        elif is_text and position == 0:
            module.docstring = "\n".join(lines[node.lineno - 1 : end])
        elif is_text:  # says what the constant above it is
            described = module.statements[-1]
            module.statements[-1] = replace(described, text="\n".join([described.text, *lines[first:end]]))
        else:
            module.statements.append(_read_statement(node, lines, first, module, left_out))
    return module


@cache
def with_brief_docstrings(text: str) -> str:
    """Cut docstrings to their first paragraph where users of a file do not look: functions and private methods.

    Args:
        text: Source of a statement of a module's top level.

    Returns:
        The source.
    """
    lines = text.split("\n")
    (statement,) = ast.parse(text).body
    is_class = isinstance(statement, ast.ClassDef)
    functions = [node for node in ast.walk(statement) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):
        is_public = is_class and (not node.name.startswith("_") or node.name.endswith("__"))
        first = node.body[0]
        if is_public or ast.get_docstring(node) is None or first.lineno == first.end_lineno:
            continue
        paragraph = "\n".join(lines[first.lineno - 1 : first.end_lineno]).split("\n\n")[0].rstrip()
        closed = paragraph if paragraph.count('"""') == 2 else f'{paragraph}"""'
        lines[first.lineno - 1 : first.end_lineno] = closed.split("\n")
    return "\n".join(lines)


def _read_import(node: ast.stmt, module: ModuleSource, imports: list[ImportedName]) -> None:
    """Sort the names of an import into those of other packages and those of the module's own."""
    where = f"line {getattr(node, 'lineno', 0)} of {module.name}"
    if not isinstance(node, ast.Import | ast.ImportFrom) or node.names[0].name == "*":
        raise ValueError(f"{where} must be an import of single names")
    if isinstance(node, ast.Import):
        if any(_in_package_of(module, alias.name) for alias in node.names):
            raise ValueError(f"{where} imports a module of its own package, must import names from it")
        for alias in node.names:
            imports.append(ImportedName(alias.asname or alias.name.split(".")[0], alias.name))
        return
    origin = _origin(node, module)
    for alias in node.names:
        name = alias.asname or alias.name
        if origin == "__future__":
            module.futures.add(name)
        elif not _in_package_of(module, origin):
            imports.append(ImportedName(name, origin, alias.name))
        elif name != alias.name:
            raise ValueError(f"{where} imports `{alias.name}` of {origin} under another name")
        elif module.origins.setdefault(name, origin) != origin:
            raise ValueError(
                f"{where} imports `{name}` of {origin}, another line imports that of {module.origins[name]}"
            )


def _origin(node: ast.ImportFrom, module: ModuleSource) -> str:
    return importlib.util.resolve_name("." * node.level + (node.module or ""), module.name.rpartition(".")[0])


def _in_package_of(module: ModuleSource, name: str) -> bool:
    return name.split(".")[0] == module.name.split(".")[0]


def _read_statement(
    node: ast.stmt, lines: list[str], first: int, module: ModuleSource, left_out: Collection[str]
) -> Statement:
    """Take a statement out of its module; the one before ends at line `first`."""
    edited = dict(enumerate(lines[first : node.end_lineno], first + 1))
    for method in [inner for inner in getattr(node, "body", []) if isinstance(inner, ast.FunctionDef)]:
        if f"{getattr(node, 'name', '')}.{method.name}" in left_out:
            node.body.remove(method)
            begin = min([method, *method.decorator_list], key=lambda part: part.lineno).lineno
            for number in range(begin - 1, method.end_lineno + 1):  # with the empty line above
                del edited[number]
    inner_nodes = list(ast.walk(node))
    for block in _inner_blocks(inner_nodes):
        own = []
        for inner in block:
            if isinstance(inner, ast.Import | ast.ImportFrom):
                _read_import(inner, module, [])
            if isinstance(inner, ast.ImportFrom) and _in_package_of(module, _origin(inner, module)):
                own.append(inner)
            elif isinstance(inner, ast.Import) and re.fullmatch(r"\s*import\s+\S+\s*", edited[inner.lineno]):
                edited[inner.lineno] = edited[inner.lineno].rstrip() + LAZY_IMPORT
        for inner in own:
            _remove(edited, inner, is_only=own == block)
    return Statement(
        text="\n".join(edited[number] for number in sorted(edited)).strip("\n"),
        binds=frozenset(_bound_names(node, inner_nodes)),
        uses=frozenset(_used_names(inner_nodes)),
        needs=frozenset(_names(_run_at_definition(node))),
        runs=frozenset(_called_names(node, inner_nodes)),
        is_block=not isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr),
        num_blank_above=next(index for index, line in enumerate(lines[first:]) if line),
    )


def _remove(edited: dict[int, str], node: ast.stmt, is_only: bool) -> None:
    """Remove an import's lines, and the empty line below that would begin a block."""
    for number in range(node.lineno, node.end_lineno + 1):
        del edited[number]
    if is_only:
        edited[node.lineno] = f"{' ' * node.col_offset}pass"
    elif edited.get(node.end_lineno + 1) == "":
        del edited[node.end_lineno + 1]


def _inner_blocks(nodes: list[ast.AST]) -> Iterator[list[ast.stmt]]:
    for inner in nodes:
        for name in ("body", "orelse", "finalbody"):
            block = getattr(inner, name, None)
            if isinstance(block, list) and block:
                yield block


def _bound_names(node: ast.stmt, inner_nodes: list[ast.AST]) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in inner_nodes:
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in inner.names)


def _used_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for inner in nodes:
        if isinstance(inner, ast.Name):
            yield inner.id
        for annotation in _annotations(inner):
            for part in ast.walk(annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    with suppress(SyntaxError):  # a literal, not a type
                        yield from _used_names(ast.walk(ast.parse(part.value, mode="eval")))


def _run_at_definition(node: ast.AST) -> Iterator[ast.AST]:
    """Find the parts of a statement that Python evaluates at once: all but the bodies of functions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield from getattr(node, "decorator_list", [])
        yield node.args  # with annotations and defaults
        if getattr(node, "returns", None) is not None:
            yield node.returns
    elif isinstance(node, ast.ClassDef):
        yield from (*node.decorator_list, *node.bases, *node.keywords)
        for inner in node.body:
            yield from _run_at_definition(inner)
    else:
        yield node


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))


def _called_names(node: ast.AST, inner_nodes: list[ast.AST]) -> Iterator[str]:
    for part in _run_at_definition(node):
        for inner in ast.walk(part):
            if isinstance(inner, ast.Call):
                yield from _names([inner.func])
    for inner in inner_nodes:
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield from _names(inner.decorator_list)


def _annotations(node: ast.AST) -> Iterator[ast.expr]:
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        found.append(node.value)
    yield from (annotation for annotation in found if annotation is not None)
