"""Generate code files: those of a Hub repository, and the single one for diffusers' examples/community."""

import keyword
import os
import sys
from contextlib import ExitStack
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from .. import __version__
from ..machine.output_places import check_place, naming_place, part_beside
from .portable_code import self_contained_source

_PACKAGE = "diffusers_dawn"
# what the file for examples/community holds whole, the pipeline last; what these need of others comes with them
BUNDLED = tuple(
    f"{_PACKAGE}.{module}"
    for module in (
        "records",
        "models.a2v_fdm",
        "models.lfg",
        "models.pbnet",
        "sampling.scheduling_dawn_ddim",
        "pipeline.output",
        "pipeline.pipeline_dawn",
    )
)
# what it does without: it animates whole recordings, as the text beside it says; streams are for the package
LEFT_OUT = ("StreamsSpeech.stream",)
# what the file itself imports
_HIDDEN = {"av", "diffusers", "librosa", "mediapipe", "numpy", "PIL", "torch", "transformers"}
_ORIGIN = f"# Written by {_PACKAGE} {__version__} from its modules; changes belong there."
_REPOSITORY_HEADER = f"{_ORIGIN}\n# SPDX-License-Identifier: Apache-2.0"
_COMMUNITY_HEADER = f"""\
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
#
{_ORIGIN}"""
_EXAMPLE = """\
import torch
from {module} import {name}
from diffusers.utils import encode_video

pipe = {name}.from_pretrained({arguments})
out = pipe("portrait.png", "speech.wav", generator=torch.Generator().manual_seed(0))
sound = torch.from_numpy(out.audio[0])
encode_video(out.frames[0], out.fps, "talking.mp4", audio=sound, audio_sample_rate=out.sampling_rate[0])
"""
_README = """\
Row for the table:

| DAWN talking head | Animate one portrait with one recording of speech, all frames of a clip at once \
([DAWN](https://arxiv.org/abs/2410.13726), ICLR 2025) | [DAWN talking head](#dawn-talking-head) | - | \
The diffusers_dawn authors |

Section:

### DAWN talking head

A portrait and a recording of speech become a talking video. [DAWN](https://arxiv.org/abs/2410.13726) denoises the
motion of all frames of a clip at once, so that its length is that of the recording, and draws the frames by warping
the portrait.

Repositories carry their code, which `DiffusionPipeline.from_pretrained("your-name/dawn", trust_remote_code=True)`
runs, whatever its `custom_pipeline` says. To run none of it, put this file, `{module}.py`, beside the script and
import it:

```python
{example}```

Reading sound files and writing videos needs `pip install av`, sound of other rates than 16 kHz `pip install librosa`,
and finding the face `pip install mediapipe==0.10.14` (or `face=` with the face's state). Animate only people who
agreed to it, and say that the video is synthetic.
"""


@cache
def repository_source(module: str) -> str:
    """Write the source file of a pipeline or component for a repository.

    Args:
        module: Full name of the module of its class, of this package.

    Returns:
        Source that imports nothing of this package.
    """
    example = _EXAMPLE.format(
        module="diffusers", name="DiffusionPipeline", arguments='"folder/or-id", trust_remote_code=True'
    )
    constants = {"EXAMPLE_DOC_STRING": _example_docstring(example)}
    return self_contained_source([module], _REPOSITORY_HEADER, constants)


def export_community(path: str | Path) -> tuple[Path, Path]:
    """Write a file for diffusers' examples/community, and beside it the text for that folder's README.

    Args:
        path: The file, .py, which must not exist; its name is what users import it by.

    Returns:
        The file, and the Markdown file beside it.

    Raises:
        ValueError: The name is that of no Python module or of one that would be hidden, one of the files exists, or
            the folder cannot be written to.
        OSError: They cannot be written, as on a full disk; nothing of them stays.
    """
    path = Path(path)
    is_name = path.stem.isidentifier() and not (path.stem.startswith("__") or keyword.iskeyword(path.stem))
    if path.suffix != ".py" or not is_name:
        raise ValueError(f"`output` is {path}, must be named like a Python module, such as dawn.py")
    # what diffusers needs, and that needs, is among what is installed
    if path.stem in {*sys.stdlib_module_names, *_HIDDEN, *packages_distributions()}:
        raise ValueError(f"`output` is {path}, which would hide the module {path.stem}; choose another name")
    readme = path.with_suffix(".md")
    for file in (path, readme):
        check_place(file, "output")
        if file.exists():
            raise ValueError(f"`output` would overwrite {file}")
    # a repository's own code goes before any `custom_pipeline`, so the file is imported by its name
    example = _EXAMPLE.format(module=path.stem, name="DAWNPipeline", arguments='"your-name/dawn"')
    constants = {"EXAMPLE_DOC_STRING": _example_docstring(example)}
    texts = {
        path: self_contained_source(BUNDLED, _COMMUNITY_HEADER, constants, LEFT_OUT),
        readme: _README.format(module=path.stem, example=example),
    }
    with ExitStack() as places:
        parts = {file: places.enter_context(part_beside(file)) for file in texts}
        with naming_place(path):
            for file, part in parts.items():
                part.write_text(texts[file], encoding="utf-8")
            for file, part in parts.items():
                os.replace(part, file)
    return path, readme


def _example_docstring(example: str) -> str:
    """Write the source of an example as `replace_example_docstring` expects it."""
    lines = [f"        >>> {line}" if line else "" for line in example.splitlines()]
    return "\n".join(['"""', "    Examples:", "        ```py", *lines, "        ```", '"""'])
