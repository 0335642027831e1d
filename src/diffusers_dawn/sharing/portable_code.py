"""Join this package's modules into single source files, for places that load one file at a time, such as the Hub.

diffusers runs the code of a repository file by file, and a file cannot import its neighbours. So each file consists of
one module and of what that needs of the others. It is made of the modules as text. Comments and docstrings stay, but
those of functions and private methods keep only their first paragraph. Imports of the package go; those of other
packages come first.

A file opens with a table of contents. Its own module stands as near to the top as Python allows: only what must exist
when its classes are defined comes before it (their bases, and what their signatures name); all else follows.
"""

import ast
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from .module_source import LAZY_IMPORT, ImportedName, ModuleSource, Statement, read_module, with_brief_docstrings

LINE_LENGTH = 119


def self_contained_source(
    modules: Sequence[str],
    header: str,
    constants: Mapping[str, str] | None = None,
    left_out: Collection[str] = (),
) -> str:
    """Write modules, and what they need of their package, as the source of one module.

    Args:
        modules: Full names of modules of one package, which are kept whole. The last is the file's own: it gives the
            docstring and stands near the top.
        header: Comment lines to begin with.
        constants: Name of a constant to the source of the value that it has here instead of its own.
        left_out: Methods that this file does without, as "Class.method", and without what only they need.

    Returns:
        Source that imports nothing of the package.

    Raises:
        ValueError: The modules cannot become one: two of them mean different things by one name, they import each
            other in a circle, or an import is of a form that cannot be moved. The message says which.
    """
    sources: dict[str, ModuleSource] = {}
    for name in modules:
        _collect(name, sources, (), left_out)
    bundle = _Bundle(sources)
    for name in modules:
        bundle.keep_whole(name)
    own = modules[-1]
    sections = bundle.sections(own)
    contents = _contents(sections, sources, own) if len(sections) > 1 else ""
    blocks = [(0, header), (0, sources[own].docstring), (1, contents), (1, bundle.import_lines())]
    titled = {own}
    for name, statements in sections:
        if len(sources) > 1:
            blocks.append((2 if len(blocks) > 4 else 1, _title(sources[name], with_docstring=name not in titled)))
        titled.add(name)
        blocks += _spaced(statements, constants or {})
    text = "".join("\n" * num_blank + block + "\n" for num_blank, block in blocks if block)
    _check_loading(text, modules[-1])
    return text


def _collect(
    name: str, sources: dict[str, ModuleSource], importers: tuple[str, ...], left_out: Collection[str]
) -> None:
    """Read a module, and before it those of its package that it imports, at the top or inside a function."""
    if name in importers:
        raise ValueError(f"modules import each other in a circle: {' -> '.join([*importers, name])}")
    if name in sources:
        return
    source = read_module(name, left_out)
    for origin in dict.fromkeys(source.origins.values()):
        _collect(origin, sources, (*importers, name), left_out)
    sources[name] = source


class _Bundle:
    """The statements and imports of modules that are needed.

    Args:
        sources: The modules by name.
    """

    def __init__(self, sources: Mapping[str, ModuleSource]) -> None:
        self._sources = sources
        self._kept: dict[str, set[int]] = {name: set() for name in sources}
        self._imports: set[ImportedName] = set()
        self._typing_imports: set[ImportedName] = set()
        self._meanings: dict[str, str] = {}

    def keep_whole(self, module: str) -> None:
        """Keep all statements of a module, and what they need."""
        for index in range(len(self._sources[module].statements)):
            self._keep(module, index)

    def sections(self, own: str) -> list[tuple[str, list[Statement]]]:
        """Return what is kept, module by module: what `own` needs to be defined, itself, and the rest.

        Args:
            own: The module that stands near the top.

        Returns:
            Modules in order with their statements; a module may come twice.
        """
        early: set[tuple[str, int]] = set()
        for index in self._kept[own]:
            self._add_needs(own, index, early)
        sections = []
        for is_early in (True, False):
            for module, kept in self._kept.items():
                indices = [index for index in sorted(kept) if ((module, index) in early) == is_early]
                if indices:
                    sections.append((module, [self._sources[module].statements[index] for index in indices]))
        return sections

    def _add_needs(self, module: str, index: int, early: set[tuple[str, int]], must_run: bool = False) -> None:
        """Add a statement, and what must stand before it; where it must run, also what its functions use."""
        # one that was added before to be defined only may have to run now
        marks = {(module, index), (module, index, "runs")} if must_run else {(module, index)}
        if marks <= early:
            return
        early |= marks
        statement = self._sources[module].statements[index]
        for name in sorted(statement.uses if must_run else statement.needs):
            for needed in self._definitions(name, module):
                self._add_needs(*needed, early, must_run=must_run or name in statement.runs)
        for other, beside in enumerate(self._sources[module].statements):
            if not beside.binds and other in self._kept[module]:  # it changes what was defined above it
                self._add_needs(module, other, early, must_run=True)

    def _definitions(self, name: str, module: str) -> Iterator[tuple[str, int]]:
        """Find the statements that give a name its meaning in a module."""
        source = self._sources[module]
        if name in source.origins:
            yield from self._definitions(name, source.origins[name])
        for index, statement in enumerate(source.statements):
            if name in statement.binds:
                yield module, index

    def import_lines(self) -> str:
        """Return the imports of what is kept."""
        features = {feature for source in self._sources.values() for feature in source.futures}
        imports, typing_imports = set(self._imports), self._typing_imports - self._imports
        if typing_imports:
            imports.add(ImportedName("TYPE_CHECKING", "typing", "TYPE_CHECKING"))
        standard = {imported for imported in imports if imported.module.split(".")[0] in sys.stdlib_module_names}
        sections = [
            _import_lines(ImportedName(feature, "__future__", feature) for feature in features),
            _import_lines(standard),
            _import_lines(imports - standard),
        ]
        if typing_imports:
            lines = _import_lines(typing_imports).splitlines()
            lines = (line + LAZY_IMPORT if line.startswith("import ") else line for line in lines)
            sections.append("\n".join(["if TYPE_CHECKING:", *(f"    {line}" for line in lines)]))
        return "\n\n".join(filter(None, sections))

    def _keep(self, module: str, index: int) -> None:
        if index in self._kept[module]:
            return
        self._kept[module].add(index)
        statements = self._sources[module].statements
        for name in sorted(statements[index].binds):
            self._note_meaning(name, f"{module}.{name}")
        for name in sorted(statements[index].uses):
            self._keep_meaning_of(name, module)
        for other, statement in enumerate(statements):
            if not statement.binds:  # it is there for what it does
                self._keep(module, other)

    def _keep_meaning_of(self, name: str, module: str) -> None:
        """Keep what a name means in a module; one that is unknown there is a builtin or a local variable."""
        source = self._sources[module]
        if name in source.origins:
            self._keep_meaning_of(name, source.origins[name])
        for definition in self._definitions(name, module):
            self._keep(*definition)
        for imports, kept in ((source.imports, self._imports), (source.typing_imports, self._typing_imports)):
            for imported in imports:
                if imported.name == name:
                    kept.add(imported)
                    self._note_meaning(name, imported.meaning)

    def _note_meaning(self, name: str, meaning: str) -> None:
        if self._meanings.setdefault(name, meaning) != meaning:
            raise ValueError(f"`{name}` would stand for both {self._meanings[name]} and {meaning}; rename one of them")


def _import_lines(imports: Iterable[ImportedName]) -> str:
    """Write imports sorted as ruff sorts them."""
    whole, members = set(), {}
    for imported in imports:
        if not imported.member:
            alias = "" if imported.name == imported.module.split(".")[0] else f" as {imported.name}"
            whole.add(f"import {imported.module}{alias}")
        else:
            alias = "" if imported.name == imported.member else f" as {imported.name}"
            members.setdefault(imported.module, set()).add(f"{imported.member}{alias}")
    lines = sorted(whole, key=str.lower)
    for module in sorted(members, key=str.lower):
        names = sorted(members[module], key=_member_order)
        line = f"from {module} import {', '.join(names)}"
        if len(line) > LINE_LENGTH:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"
        lines.append(line)
    return "\n".join(lines)


def _member_order(member: str) -> tuple[int, str]:
    # constants, classes, the rest
    name = member.split()[0]
    is_constant = len(name) > 1 and name.isupper()
    return (0 if is_constant else 1 if name[0].isupper() else 2), name.lower()


def _title(source: ModuleSource, with_docstring: bool) -> str:
    """Say in comments where statements come from, with the docstring of their module."""
    path = f"{source.name.replace('.', '/')}.py"
    if not (with_docstring and source.docstring):
        return f"# {path}"
    paragraphs = source.docstring.strip('"').strip().split("\n\n")
    text = "\n\n".join(textwrap.fill(paragraph, LINE_LENGTH - len("# ")) for paragraph in paragraphs)
    return "\n".join(f"# {line}".rstrip() for line in [f"{path}:", *text.splitlines()])


def _contents(sections: list[tuple[str, list[Statement]]], sources: Mapping[str, ModuleSource], own: str) -> str:
    """Write the table of contents: the modules in their order, each with the first line of its docstring."""
    names = [name for name, _ in sections]
    place = names.index(own)
    lines = ["Contents:"]
    if place:
        before = ", ".join(_path(name) for name in names[:place])
        lines += textwrap.wrap(f"- needed to define what follows: {before}", LINE_LENGTH - 2, subsequent_indent="  ")
    for name in names[place:]:
        docstring = sources[name].docstring.strip('"').strip().splitlines()
        line = f"- {_path(name)}{': ' if docstring else ''}{docstring[0] if docstring else ''}"
        lines.append(textwrap.shorten(line, LINE_LENGTH - 2, placeholder=" ..."))
    return "\n".join(f"# {line}" for line in lines)


def _path(name: str) -> str:
    """Say where a module lies in its package."""
    return f"{name.partition('.')[2].replace('.', '/')}.py"


def _spaced(statements: list[Statement], constants: Mapping[str, str]) -> list[tuple[int, str]]:
    """Give statements of one module the empty lines above them: two around blocks, else at most one."""
    spaced: list[tuple[int, str]] = []
    previous = None
    for statement in statements:
        is_apart = statement.is_block or (previous is not None and previous.is_block)
        num_blank = 2 if is_apart else 1 if previous is None else min(statement.num_blank_above, 1)
        spaced.append((num_blank, _text(statement, constants)))
        previous = statement
    return spaced


def _text(statement: Statement, constants: Mapping[str, str]) -> str:
    for name, value in constants.items():
        if name in statement.binds:
            return f"{name} = {value}"
    return with_brief_docstrings(statement.text) if statement.is_block else statement.text


def _check_loading(text: str, name: str) -> None:
    """Refuse source that does not compile, or of which diffusers would import more than it needs at first."""
    tree = ast.parse(text, name)
    compile(tree, name, "exec")
    at_top = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] not in at_top | sys.stdlib_module_names:
            raise ValueError(
                f"`from {node.module} import ...` inside a function of {name} or of what it imports must be"
                f" `import {node.module}`: diffusers would import the former as soon as it loads the file"
            )
