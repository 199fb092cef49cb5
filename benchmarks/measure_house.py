"""How well a checkout of rumjax reads, in numbers that can be compared before and after a change.

    python benchmarks/measure_house.py [--repo DIR]

Nothing of rumjax is imported or run: its files are read, so that any checkout can be measured by
the same rules. Only the standard library is needed. What is counted:

Path
    Files and lines from the launch command to a row of `results.csv`. Imports of rumjax's own
    modules are followed from `rumjax/launch.py`, those within functions too, up to the report,
    which writes the row: the report's `__init__.py` is counted, and what it imports is not.
    Commands and the lab are counted together, the library apart. The lab is `rumjax/lab`; in a
    checkout that has no such folder it is the modules listed in `FLAT_LAB`. A file `__init__.py` is
    counted if code imports names from it, and not for lying above an imported module.
Reading
    Files and lines that explain a row: those on the shortest ways of imports from the launch
    command to the modules that call `write_row`, and the modules of the lab that these import.
Comments
    Lines with a comment over lines with code, by folder. Docstrings are neither; neither are
    instructions to tools, such as `# noqa`.
Uncommented functions
    Functions of more than 30 lines, their docstring left out, that have no comment inside.
Raw reads
    Subscripts and calls of `.get` on a name or attribute `config`, outside the lab's `config.py`:
    each knows how a section of a configuration is spelled.
Spelled files
    Modules that spell the name of a file in a string, outside docstrings.
Long files
    Files of more than 400 lines.
"""

import argparse
import ast
import io
import pathlib
import re
import tokenize

LONGEST_FUNCTION, LONGEST_FILE = 30, 400
COMMANDS = {"launch", "tune", "publish"}
FLAT_LAB = {"auditing", "bank", "checkpoint", "cluster", "context", "experiment", "keywords"}
FLAT_LAB |= {"methods", "observing", "pipeline", "progress", "report", "scoring", "settings"}
FLAT_LAB |= {"stages", "tuning"}
"""modules of the lab in checkouts in which it had no folder of its own"""
FILE_NAME = re.compile(r"(\.(npz|json|csv|jsonl|html|md)$)|checkpoints/")
INSTRUCTION = re.compile(r"#\s*(noqa|type:|fmt:|pragma|ruff:|mypy:)")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = pathlib.Path(__file__).parent.parent
    parser.add_argument("--repo", type=pathlib.Path, default=here, help="the checkout to measure")
    house = House(parser.parse_args().repo / "rumjax")

    commands, library = house.path_to_a_row()
    print("From the launch command to a row of results.csv")
    print_row("commands and lab", f"{len(commands)} files", f"{house.lines(commands)} lines")
    print_row("library", f"{len(library)} files", f"{house.lines(library)} lines")

    read = house.reading()
    print_row("of these, to understand a row", f"{len(read)} files", f"{house.lines(read)} lines")

    print("\nComments per line of code")
    counts = house.comments_by_folder()
    for folder, (comments, code) in counts.items():
        print_row(folder, f"{comments / max(code, 1):.3f}", f"{comments} of {code}")
    comments, code = (sum(column) for column in zip(*counts.values(), strict=True))
    print_row("all", f"{comments / code:.3f}", f"{comments} of {code}")

    print_list("Functions of over 30 lines without a comment", house.uncommented_functions())
    print_list("Raw reads of configurations, by module", house.raw_reads(), total=True)
    print_list("Modules that spell names of files", house.spelled_files())
    print_list("Files of over 400 lines", house.long_files())


def print_row(name, *columns):
    print(f"  {name:<44}" + "".join(f"{column:>14}" for column in columns))


def print_list(title, rows, total=False):
    """A title with the number of rows, or the sum of what they count, and the rows."""
    amount = f"{sum(rows.values())} in {len(rows)}" if total else len(rows)
    print(f"\n{title}: {amount}")
    for name, value in rows.items():
        print_row(name, value)


class House:
    """The files of a package: their text and their trees, by the names of their modules."""

    def __init__(self, package):
        if not (package / "launch.py").exists():
            raise SystemExit(f"no checkout of rumjax: {package / 'launch.py'} is missing")
        self.texts, self.trees, self.folders = {}, {}, {}
        for path in sorted(package.rglob("*.py")):
            relative = path.relative_to(package)
            if relative.parts[0] == "configs":
                continue
            module = ".".join(part for part in relative.with_suffix("").parts if part != "__init__")
            self.texts[module] = path.read_text()
            self.trees[module] = ast.parse(self.texts[module])
            self.folders[module] = str(pathlib.Path("rumjax") / relative.parent)
        self.has_lab = any(module.startswith("lab.") for module in self.texts)

    def lines(self, modules):
        return sum(len(self.texts[module].splitlines()) for module in modules)

    # Path

    def is_lab(self, module):
        """Whether a module is a command or belongs to the lab."""
        first = module.split(".")[0]
        return first in COMMANDS or first == "lab" or (not self.has_lab and first in FLAT_LAB)

    def imports(self, module):
        """The modules of rumjax whose names a module imports."""
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                package, _, rest = name.partition(".")
                if package == "rumjax":
                    # `from rumjax.a import b` names a module b, or else something in module a.
                    yield rest if rest in self.texts else rest.rpartition(".")[0]

    def path_to_a_row(self):
        """The modules from the launch command to the report: of commands and lab, of library."""
        reached, waiting = set(), ["launch"]
        while waiting:
            module = waiting.pop()
            if module in reached or module not in self.texts:
                continue
            reached.add(module)
            if module.rpartition(".")[2] != "report":
                waiting += self.imports(module)
        lab = {module for module in reached if self.is_lab(module)}
        return lab, reached - lab

    def reading(self):
        """The modules that explain a row: the ways to what writes rows, and what that imports."""
        ways, nearest = {"launch": ["launch"]}, ["launch"]
        while nearest:
            writers = [module for module in nearest if self.calls(module, "write_row")]
            if writers:
                break
            following = {
                found: [*ways[module], found]
                for module in nearest
                for found in self.imports(module)
                if found in self.texts and found not in ways
            }
            ways |= following
            nearest = list(following)
        read = {module for writer in writers for module in ways[writer]}
        imported = {found for writer in writers for found in self.imports(writer)}
        return read | {
            module for module in imported if module in self.texts and self.is_lab(module)
        }

    def calls(self, module, name):
        """Whether a module calls a function of that name."""
        functions = (
            node.func for node in ast.walk(self.trees[module]) if isinstance(node, ast.Call)
        )
        return any(isinstance(each, ast.Name) and each.id == name for each in functions)

    # Comments

    def comment_lines(self, module):
        tokens = tokenize.generate_tokens(io.StringIO(self.texts[module]).readline)
        return {
            token.start[0]
            for token in tokens
            if token.type == tokenize.COMMENT and not INSTRUCTION.match(token.string)
        }

    def code_lines(self, module):
        """Lines with anything but blanks, comments and docstrings."""
        blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
        blank |= {tokenize.ENDMARKER, tokenize.ENCODING}
        found = set()
        for token in tokenize.generate_tokens(io.StringIO(self.texts[module]).readline):
            if token.type not in blank:
                found.update(range(token.start[0], token.end[0] + 1))
        for node in docstrings(self.trees[module]):
            found.difference_update(range(node.lineno, node.end_lineno + 1))
        return found

    def comments_by_folder(self):
        counts = {}
        for module, folder in sorted(self.folders.items(), key=lambda each: each[1]):
            comments, code = counts.get(folder, (0, 0))
            comments += len(self.comment_lines(module))
            counts[folder] = comments, code + len(self.code_lines(module))
        return counts

    def uncommented_functions(self):
        """Lengths of long functions without a comment, the longest first."""
        found = {}
        for module, tree in self.trees.items():
            comments = self.comment_lines(module)
            for node in ast.walk(tree):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                lines = set(range(node.lineno, node.end_lineno + 1))
                if ast.get_docstring(node) is not None:
                    text = node.body[0]
                    lines -= set(range(text.lineno, text.end_lineno + 1))
                if len(lines) > LONGEST_FUNCTION and not lines & comments:
                    found[f"{module}.{node.name}"] = len(lines)
        return dict(sorted(found.items(), key=lambda each: -each[1]))

    # Configurations and files

    def raw_reads(self):
        """How often each module reads a configuration by a key."""
        found = {}
        for module, tree in self.trees.items():
            if module.rpartition(".")[2] == "config":
                continue
            for node in ast.walk(tree):
                subscript = isinstance(node, ast.Subscript)
                if not (subscript or (isinstance(node, ast.Attribute) and node.attr == "get")):
                    continue
                name = getattr(node.value, "id", getattr(node.value, "attr", None))
                if name == "config":
                    found[module] = found.get(module, 0) + 1
        return found

    def spelled_files(self):
        """How many names of files each module spells."""
        found = {}
        for module, tree in self.trees.items():
            texts = {id(node.value) for node in docstrings(tree)}
            spelled = {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in texts
                and FILE_NAME.search(node.value)
            }
            if spelled:
                found[module] = len(spelled)
        return found

    def long_files(self):
        lengths = {module: self.lines([module]) for module in self.texts}
        return {module: length for module, length in lengths.items() if length > LONGEST_FILE}


def docstrings(tree):
    """Expressions that are nothing but a string: docstrings, also those of attributes."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node.value.value, str):
            yield node


if __name__ == "__main__":
    main()
