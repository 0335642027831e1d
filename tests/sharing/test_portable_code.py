"""Source files made of several modules: what they keep, in what order, and what is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diffusers_dawn.sharing import hub_export
from diffusers_dawn.sharing.portable_code import self_contained_source

PACKAGE = {
    "numbers": '''
        """Numbers,
        and what they are for."""

        import math

        HALF_TURN = math.pi
        """In radians."""
        # never asked for
        UNUSED = 3


        def unused() -> int:
            return UNUSED
        ''',
    "shapes.circles": '''
        """Circles."""

        from __future__ import annotations

        from dataclasses import dataclass
        from typing import TYPE_CHECKING

        import numpy as np

        from ..numbers import HALF_TURN

        if TYPE_CHECKING:
            import json


        # round
        @dataclass
        class Circle:
            radius: float

            def area(self) -> float:
                """Return the area."""
                return float(np.array(HALF_TURN) * self.radius**2)


        def written(text: "json.JSONDecoder | None" = None) -> str:
            import json

            return json.dumps(HALF_TURN)
        ''',
    "drawing": '''
        """Drawing."""

        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            from .shapes.circles import Circle


        def area(radius: float) -> float:
            if radius > 0:
                from package_to_bundle.shapes.circles import Circle, written

                circle = Circle(radius)
                return circle.area() + 0 * len(written())
            return 0.0


        def nothing(circle: "Circle | None" = None) -> None:
            from .shapes.circles import written
        ''',
}
SHIPPED = ("models.a2v_fdm", "models.lfg", "models.pbnet", "sampling.scheduling_dawn_ddim", "pipeline.pipeline_dawn")
# what diffusers[torch] and transformers bring along
# yaml comes with huggingface_hub
ALLOWED = {"PIL", "diffusers", "huggingface_hub", "numpy", "psutil", "safetensors", "torch", "transformers", "yaml"}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of a package, each given by name; return the full name of the last."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(modules):
        for name, source in modules.items():
            path = tmp_path.joinpath("package_to_bundle", *name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in (path.parent, tmp_path / "package_to_bundle"):
                (folder / "__init__.py").touch()
            path.write_text(re.sub(r"^        ", "", source, flags=re.MULTILINE).lstrip("\n"))
        return f"package_to_bundle.{name}"

    yield write
    for name in [name for name in sys.modules if name.startswith("package_to_bundle")]:
        del sys.modules[name]


def bundle(module):
    return self_contained_source([module], "# header")


def test_bundle_does_what_the_package_does(package):
    names = {"__name__": "bundled"}
    source = bundle(package(PACKAGE))
    sys.modules["bundled"] = type(sys)("bundled")
    exec(compile(source, "bundled", "exec"), names)
    assert names["area"](2.0) == pytest.approx(12.566370614)
    assert names["nothing"]() is None
    assert "package_to_bundle." not in source and "from ." not in source


def test_only_what_is_needed_is_kept(package):
    source = bundle(package(PACKAGE))
    assert "HALF_TURN = math.pi" in source
    assert "unused" not in source and "UNUSED" not in source


def test_a_method_that_is_left_out_goes_with_what_only_it_needs(package):
    source = self_contained_source([package(PACKAGE)], "# header", left_out=["Circle.area"])
    assert "class Circle:\n    radius: float\n\n\n" in source and "def written" in source
    assert "def area(self)" not in source and "numpy" not in source
    assert "def area(radius: float)" in source


def test_comments_and_docstrings_stay(package):
    source = bundle(package(PACKAGE))
    for text in ('"""In radians."""', "# round\n@dataclass", '"""Return the area."""'):
        assert text in source
    assert "# package_to_bundle/numbers.py:\n# Numbers, and what they are for.\n" in source
    contents = "# Contents:\n# - drawing.py: Drawing.\n# - numbers.py: Numbers,\n# - shapes/circles.py: Circles.\n"
    imports = "from __future__ import annotations\n\nimport math\n"
    assert source.startswith(f'# header\n"""Drawing."""\n\n{contents}\n{imports}')


HOUSE = {
    "sizes": """
        def double(size):
            return size + add(size)


        def add(size):
            return size


        def unneeded_at_first():
            return "later"
        """,
    "bases": """
        from .sizes import double, unneeded_at_first

        SIZE = double(2)


        class Base:
            def later(self):
                return unneeded_at_first()
        """,
    "house": """
        from .bases import SIZE, Base


        class House(Base):
            size = SIZE
        """,
}


def test_the_files_own_module_stands_as_near_to_the_top_as_python_allows(package):
    source = bundle(package(HOUSE))
    order = ["def double", "def add", "SIZE = ", "class Base", "class House", "def unneeded_at_first"]
    places = [source.index(text) for text in order]
    assert places == sorted(places)
    names = {}
    exec(source, names)
    assert (names["House"].size, names["House"]().later()) == (4, "later")


BRIEF = {
    "a": '''
        class A:
            def _hidden(self, x):
                """Do it.

                Args:
                    x: What.
                """

            def shown(self, x):
                """Do it.

                Args:
                    x: Shown.
                """


        def helper(x):
            """Do it.

            Args:
                x: What.
            """
        '''
}


def test_only_what_users_call_keeps_its_whole_docstring(package):
    written = self_contained_source([package(BRIEF)], "# header")
    assert written.count('"""Do it."""') == 2
    assert re.findall(r"x: (\w+)\.", written) == ["Shown"]


def test_imports_of_others_inside_functions_stay_there_and_out_of_sight(package):
    source = bundle(package(PACKAGE))
    assert re.findall(r"^\s*import\s+(\S+)\s*$", source, flags=re.MULTILINE) == ["math"]
    assert source.count("    import json  #") == 2


def test_constants_may_be_given_other_values(package):
    module = package({"a": "LIMIT = 3\n"})
    assert self_contained_source([module], "# header", {"LIMIT": "4"}) == "# header\n\nLIMIT = 4\n"


def test_statements_that_define_nothing_are_kept_with_their_module(package):
    a = "SHAPES = []\n\nSHAPES.append('circle')\n\n\ndef shapes():\n    return SHAPES\n"
    source = bundle(package({"a": a, "b": "from .a import shapes\n\nx = shapes()\n"}))
    names = {}
    exec(source, names)
    assert names["x"] == ["circle"]


def test_imports_that_may_fail_are_kept(package):
    a = "try:\n    import no_such_package\nexcept ImportError:\n    no_such_package = None\n"
    b = 'from typing import Literal\n\nfrom .a import no_such_package\n\nx: Literal["dpm++"] = no_such_package\n'
    names = {}
    exec(bundle(package({"a": a, "b": b})), names)
    assert names["x"] is None


def refused(package, modules, match):
    with pytest.raises(ValueError, match=match):
        bundle(package(modules))


def test_two_meanings_of_a_name_are_refused(package):
    b = "from .a import f\n\n\ndef size():\n    return f()\n"
    a = "\n\ndef size():\n    return 1\n\n\ndef f():\n    return size()\n"
    refused(package, {"a": a, "b": b}, r"`size` would stand for both package_to_bundle\.b\.size and package")


def test_two_imports_by_one_name_are_refused(package):
    a = "from math import floor as down\n\n\ndef f():\n    return down(1.5)\n"
    b = "from operator import floordiv as down\n\nfrom .a import f\n\nx = f() + down(1, 1)\n"
    refused(
        package,
        {"a": a, "b": b},
        "`down` would stand for both math.floor and operator.floordiv|both operator.floordiv and math.floor",
    )


@pytest.mark.parametrize(
    ("modules", "match"),
    [
        ({"a": "from .b import y\n\nx = y\n", "b": "from .a import x\n\ny = x\n"}, "import each other in a circle"),
        ({"a": "x = 1\n", "b": "from .a import x as y\n\nz = y\n"}, "imports `x` of .*under another name"),
        (
            {
                "a": "x = 1\n",
                "c": "x = 2\n",
                "b": "from .a import x\n\n\ndef f():\n    from .c import x\n\n    return x\n",
            },
            "another line imports that of",
        ),
        ({"a": "x = 1\n", "b": "from .a import *\n\nz = x\n"}, "must be an import of single names"),
        ({"a": "x = 1\n", "b": "from . import a\n\nz = a.x\n"}, "must be a module that exists, not a package"),
        ({"a": "x = 1\n", "b": "import package_to_bundle.a\n\nz = 1\n"}, "imports a module of its own package"),
        ({"b": "from .missing import x\n\nz = x\n"}, "must be a module that exists"),
        (
            {"b": "def f():\n    from wave import Error as E\n    from numpy import pi\n    return pi\n"},
            "import numpy",
        ),
    ],
)
def test_imports_that_cannot_be_moved_are_refused(package, modules, match):
    refused(package, modules, match)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Every file that leaves the package, by name."""
    folder = tmp_path_factory.mktemp("shipped")
    hub_export.export_community(folder / "dawn.py")
    for name in SHIPPED:
        source = hub_export.repository_source(f"diffusers_dawn.{name}")
        (folder / f"{name.rpartition('.')[2]}.py").write_text(source, encoding="utf-8")
    return {path.stem: path for path in folder.glob("*.py")}


def imported_as_diffusers_sees_it(source):
    """What `diffusers.utils.dynamic_modules_utils.check_imports` imports before it runs a file."""
    names = re.findall(r"^\s*import\s+(\S+)\s*$", source, flags=re.MULTILINE)
    names += re.findall(r"^\s*from\s+(\S+)\s+import", source, flags=re.MULTILINE)
    return {name.split(".")[0] for name in names}


def test_all_parts_of_a_pipeline_go_into_one_file(shipped):
    # no two modules that a pipeline needs may use one name for two things: this fails where they do
    source = shipped["dawn"].read_text()
    for name in ("A2VFlowDiffusionModel", "LatentFlowGenerator", "PoseBlinkNet", "DAWNDDIMScheduler", "DAWNPipeline"):
        assert source.count(f"\nclass {name}(") == 1


def test_shipped_code_opens_with_its_contents_and_its_class_is_in_the_first_third(shipped):
    classes = ("A2VFlowDiffusionModel", "LatentFlowGenerator", "PoseBlinkNet", "DAWNDDIMScheduler", "DAWNPipeline")
    for name, class_name in zip(SHIPPED, classes, strict=True):
        source = shipped[name.rpartition(".")[2]].read_text()
        assert source.index("# Contents:") < source.index("\nimport ")
        assert 3 * source.index(f"\nclass {class_name}(") < len(source)


def test_shipped_code_needs_no_more_than_diffusers_and_transformers(shipped):
    for path in shipped.values():
        assert imported_as_diffusers_sees_it(path.read_text()) <= ALLOWED | sys.stdlib_module_names


def test_shipped_code_is_clean_and_defines_what_it_uses(shipped):
    config = Path(__file__).parents[2] / "pyproject.toml"
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--no-cache", "--config", str(config)]
        done = subprocess.run([*command, *map(str, shipped.values())], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_shipped_files_have_names_that_diffusers_does_not_use(shipped):
    from diffusers import pipelines

    assert not [name for name in shipped if hasattr(pipelines, name)]


def test_shipped_code_is_the_same_every_time(shipped):
    code = (
        "from diffusers_dawn.sharing.hub_export import *; "
        "print(repository_source('diffusers_dawn.pipeline.pipeline_dawn'), end='')"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == shipped["pipeline_dawn"].read_text()
