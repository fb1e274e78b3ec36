"""Formulas as MathML in the page itself, so that they are read without a network: no script, font or picture."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def mathml(latex: str, display: str) -> str:
    """A formula as MathML; what the converter leaves unset as TeX would set it is mended here."""
    text = convert(latex, display=display)
    # a word is one upright name, not a row of letters
    letters = r'(?:<mi mathvariant="normal">\w</mi>)+'
    text = re.sub(letters, lambda word: f"<mi>{re.sub('<.*?>', '', word[0])}</mi>", text)
    # a thin space between a function's name and an argument without brackets
    return re.sub(r"(<mi>(?:log|exp|max|min)</mi>)(?=<m(?:i|sub|sup|n|row|frac)\b)", rf"\1{THIN}", text)


THIN = '<mspace width="0.1667em"/>'


def inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
