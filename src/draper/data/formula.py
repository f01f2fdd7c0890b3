"""Arithmetic on columns, given as text and never evaluated as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draper.errors import DraperError, did_you_mean

OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log10": np.log10,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
}


def column_from(
    formula: str, table: Mapping[str, NDArray[Any]], rows: int
) -> tuple[str, NDArray[np.float64]]:
    """Evaluate ``"name = expression"`` over the columns of a table; returns the name and the new column.

    Examples
    --------
    >>> column_from("a_li = li_fe + 1.05 + fe_h", {"li_fe": np.array([1.0]), "fe_h": np.array([-0.5])}, 1)
    ('a_li', array([1.55]))
    """
    name, equals, expression = (part.strip() for part in formula.partition("="))
    if not equals or not name.isidentifier() or not expression:
        raise DraperError(
            "the formula does not define a column",
            given=formula,
            expected="NAME = EXPRESSION, such as 'a_li = li_fe + 1.05 + fe_h'",
        )
    try:
        tree = ast.parse(expression, mode="eval").body
        with np.errstate(all="ignore"):
            values = np.asarray(_value(tree, table, formula), dtype=np.float64)
    except (SyntaxError, RecursionError, MemoryError, OverflowError, ValueError) as error:
        if isinstance(error, DraperError):
            raise
        raise DraperError(
            "the formula cannot be read",
            given=formula if len(formula) < 200 else f"{formula[:200]}...",
            hint="write it as NAME = EXPRESSION, such as 'a_li = li_fe + 1.05 + fe_h'",
        ) from None
    return name, np.array(np.broadcast_to(values, (rows,)))


def _value(node: ast.expr, table: Mapping[str, NDArray[Any]], formula: str) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return np.float64(value)  # as with columns, 1/0 is infinite and (-1)**0.5 is NaN
        case ast.Name(id=name):
            by_case = {column.lower(): column for column in table}
            if name.lower() not in by_case:
                raise DraperError(
                    f"the formula uses '{name}', which is not a column",
                    given=formula,
                    hint=did_you_mean(name, table),
                )
            column = table[by_case[name.lower()]]
            if column.dtype.kind not in "fib":
                raise DraperError(
                    f"the formula uses '{name}', which is not a number",
                    given=formula,
                    expected="columns of numbers",
                )
            return column.astype(np.float64)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, table, formula), _value(right, table, formula))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(operand, table, formula))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](_value(argument, table, formula))
    raise DraperError(
        "a formula may only use columns, numbers and arithmetic",
        given=formula,
        expected=f"+ - * / ** ( ) and {', '.join(FUNCTIONS)}",
    )
