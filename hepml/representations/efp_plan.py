"""A plan that computes many energy-flow polynomials with as few tensor operations as it finds: variable
elimination with shared parts.

The polynomial of a connected multigraph is a sum over one constituent a vertex of z for each vertex and
theta^m for each edge. Summing over one vertex at a time leaves

    a vertex with one neighbour    a vector over it,      v_a  = sum_b M_ab z_b w_b              (branch, N^2)
    a vertex with two neighbours   a matrix between them, M_ac = sum_b A_ab z_b w_b C_bc         (chain, N^3)
    what is left of K4             its part beside one edge, over that edge's ends              (diamond, N^4)

and products of what meets at a vertex or an edge. Every such part is named by what it is made of, so that
parts that polynomials have in common are computed once; for each multigraph the order of elimination is the
one that adds least to the parts already there. Up to seven edges only the four multigraphs with K4 inside
need N^4, and share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from hepml.representations.efp_graphs import Edges, connected, vertices

# A matrix is referred to by its number, its transpose by the complement ~number.
COSTS = {"power": 1.0, "product": 1.0, "chain": 9.0, "diamond": 200.0, "branch": 0.4, "times": 0.05}


@dataclass(eq=False)
class Plan:
    """What to compute, in order.

    Args:
        matrices: ("power", m), theta^m; ("product", references); ("chain", A, w, C) and ("diamond", A, B, M,
            C, D, v, w) with references to matrices and numbers of vectors.
        vectors: ("one",); ("times", numbers), a product; ("branch", M, w).
        order: parts in an order in which each comes after what it is made of, as ("m" or "v", number).
        closings: for each multigraph the vectors whose product is summed with z.
    """

    matrices: list[tuple[object, ...]] = field(default_factory=list)
    vectors: list[tuple[object, ...]] = field(default_factory=list)
    order: list[tuple[str, int]] = field(default_factory=list)
    closings: list[tuple[int, ...]] = field(default_factory=list)

    @cached_property
    def unused(self) -> list[list[int]]:
        """For each step of `order`, the matrices that nothing needs any more after it."""
        last: dict[int, int] = {}
        for step, (kind, number) in enumerate(self.order):
            for other, n in made_of((self.matrices if kind == "m" else self.vectors)[number]):
                if other == "m":
                    last[n] = step
        out: list[list[int]] = [[] for _ in self.order]
        for number, step in last.items():
            out[step].append(number)
        return out

    @cached_property
    def closing_vectors(self) -> list[int]:
        """The vectors that closings are made of."""
        return sorted({n for closing in self.closings for n in closing})

    @cached_property
    def closing_groups(self) -> list[list[list[int]]]:
        """Closings of one vector, of two, and so on: for each group its first vectors, its second ..., by
        place in `closing_vectors`."""
        at = {n: i for i, n in enumerate(self.closing_vectors)}
        groups: dict[int, list[list[int]]] = {}
        for closing in self.closings:
            groups.setdefault(len(closing), []).append([at[n] for n in closing])
        return [[list(column) for column in zip(*groups[size], strict=True)] for size in sorted(groups)]

    @cached_property
    def closing_places(self) -> list[int]:
        """Where each multigraph's closing stands when the groups stand behind each other."""
        order = sorted(range(len(self.closings)), key=lambda i: len(self.closings[i]))
        return sorted(range(len(order)), key=order.__getitem__)


@cache
def plan(degree: int) -> Plan:
    """The plan for all connected multigraphs of at most `degree` edges, in the order of
    `efp_graphs.connected`."""
    parts = _Parts()
    for d in range(1, degree + 1):
        for edges in connected(d):
            parts.add(edges)
    return parts.plan


State = tuple[
    dict[int, tuple[int, ...]], dict[tuple[int, int], tuple[int, ...]]
]  # vectors of a vertex, matrices of an edge


class _Parts:
    """Parts by name, and which of them the plan has."""

    def __init__(self) -> None:
        self.plan = Plan(vectors=[("one",)])
        self._numbers: dict[tuple[object, ...], int] = {}
        self._symmetric: list[bool] = []
        self._planned: set[tuple[str, int]] = {("v", 0)}

    def add(self, edges: Edges) -> None:
        """Adds a multigraph by the elimination that costs least."""
        start: State = (
            dict.fromkeys(range(vertices(edges)), ()),
            {(i, j): (self._matrix(("power", m), ("power", m)),) for i, j, m in edges},
        )
        best: list[tuple[float, tuple[int, ...]]] = []
        self._search(start, frozenset(), 0.0, best)
        closing = best[0][1]
        for number in closing:
            self._schedule(("v", number))
        self.plan.closings.append(closing)

    # ------------------------------------------------------------------ elimination

    def _search(self, state: State, used: frozenset[tuple[str, int]], cost: float, best: list) -> None:  # type: ignore[type-arg]
        """Tries every worthwhile order from here on; `best` holds the cheapest (cost, closing) so far."""
        if best and cost >= best[0][0]:
            return
        at, between = state
        if len(at) == 1:
            (closing,) = at.values()
            best[:] = [(cost, closing)]
            return
        degree = dict.fromkeys(at, 0)
        for u, v in between:
            degree[u] += 1
            degree[v] += 1
        ends = [v for v, d in degree.items() if d == 1]
        if len(between) == len(at) - 1:  # a tree: any vertex may be the last
            for root in at:
                self._step(self._peel(state, root), state, used, cost, best)
        elif ends:
            self._step(self._branch(state, ends[0]), state, used, cost, best)
        elif middle := [v for v, d in degree.items() if d == 2]:
            for v in middle:
                self._step(self._chain(state, v), state, used, cost, best)
        else:
            for edge in between:
                self._step(self._diamond(state, edge), state, used, cost, best)

    def _step(
        self, successor: State, state: State, used: frozenset[tuple[str, int]], cost: float, best: list[Any]
    ) -> None:
        fresh: set[tuple[str, int]] = set()
        for numbers in successor[0].values():
            for n in numbers:
                self._needs(("v", n), used, fresh)
        for references in successor[1].values():
            for r in references:
                self._needs(("m", max(r, ~r)), used, fresh)
        more = sum(COSTS[str(self._part(p)[0])] for p in fresh)
        self._search(successor, used | fresh, cost + more, best)

    def _peel(self, state: State, root: int) -> State:
        while len(state[0]) > 1:
            touched = [v for edge in state[1] for v in edge]
            state = self._branch(state, next(v for v in state[0] if v != root and touched.count(v) == 1))
        return state

    def _branch(self, state: State, v: int) -> State:
        """Sums over a vertex with one neighbour."""
        at, between = dict(state[0]), dict(state[1])
        (edge,) = (e for e in between if v in e)
        u = edge[0] if edge[1] == v else edge[1]
        matrix = self._product(between.pop(edge))
        vector = self._vector(
            ("branch", matrix if edge[1] == v else self._turn(matrix), self._times(at.pop(v)))
        )
        at[u] = tuple(sorted((*at[u], vector)))
        return at, between

    def _chain(self, state: State, v: int) -> State:
        """Sums over a vertex with two neighbours."""
        at, between = dict(state[0]), dict(state[1])
        first, second = (e for e in between if v in e)
        a, c = (e[0] if e[1] == v else e[1] for e in (first, second))
        if a > c:
            (first, a), (second, c) = (second, c), (first, a)
        left, right = (self._product(between.pop(e)) for e in (first, second))
        left = left if first[1] == v else self._turn(left)
        right = right if second[0] == v else self._turn(right)
        weight = self._times(at.pop(v))
        matrix = self._matrix(
            ("chain", left, weight, right), ("chain", self._turn(right), weight, self._turn(left))
        )
        between[a, c] = tuple(sorted((*between.get((a, c), ()), matrix)))
        return at, between

    def _diamond(self, state: State, edge: tuple[int, int]) -> State:
        """Sums K4 over the two vertices that are not ends of `edge`."""
        at, between = dict(state[0]), dict(state[1])
        assert len(at) == 4 and len(between) == 6, "a multigraph of more than seven edges"  # noqa: PT018
        (a, b), (c, d) = edge, (v for v in at if v not in edge)

        def matrix(i: int, j: int) -> int:
            return self._product(between[i, j]) if i < j else self._turn(self._product(between[j, i]))

        v, w = self._times(at.pop(c)), self._times(at.pop(d))
        # sum_cd A_ac B_bc v_c M_cd w_d C_ad D_bd
        key = ("diamond", matrix(a, c), matrix(b, c), matrix(c, d), matrix(a, d), matrix(b, d), v, w)
        turned = ("diamond", matrix(b, c), matrix(a, c), matrix(c, d), matrix(b, d), matrix(a, d), v, w)
        product = self._matrix(key, turned)
        return at, {edge: tuple(sorted((*between[edge], product)))}

    # ------------------------------------------------------------------ names

    def _matrix(self, key: tuple[object, ...], turned: tuple[object, ...]) -> int:
        """The reference to a matrix, known by its name or by that of its transpose."""
        if key in self._numbers:
            return self._numbers[key]
        number = len(self.plan.matrices)
        self.plan.matrices.append(key)
        self._symmetric.append(key == turned)
        self._numbers[key] = number
        if key != turned:
            self._numbers[turned] = ~number
        return number

    def _turn(self, reference: int) -> int:
        return reference if self._symmetric[max(reference, ~reference)] else ~reference

    def _product(self, references: tuple[int, ...]) -> int:
        if len(references) == 1:
            return references[0]
        names = tuple(tuple(sorted(r)) for r in (references, map(self._turn, references)))
        return self._matrix(("product", names[0]), ("product", names[1]))

    def _vector(self, key: tuple[object, ...]) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.plan.vectors)
            self.plan.vectors.append(key)
        return self._numbers[key]

    def _times(self, numbers: tuple[int, ...]) -> int:
        if not numbers:
            return 0
        return numbers[0] if len(numbers) == 1 else self._vector(("times", numbers))

    # ------------------------------------------------------------------ what needs what

    def _part(self, part: tuple[str, int]) -> tuple[object, ...]:
        return (self.plan.matrices if part[0] == "m" else self.plan.vectors)[part[1]]

    def _needs(
        self, part: tuple[str, int], used: frozenset[tuple[str, int]], fresh: set[tuple[str, int]]
    ) -> None:
        """Adds a part, and what it is made of, to `fresh`, unless it is planned or used already."""
        if part in self._planned or part in used or part in fresh:
            return
        fresh.add(part)
        for other in made_of(self._part(part)):
            self._needs(other, used, fresh)

    def _schedule(self, part: tuple[str, int]) -> None:
        if part in self._planned:
            return
        for other in made_of(self._part(part)):
            self._schedule(other)
        self._planned.add(part)
        self.plan.order.append(part)


def made_of(part: tuple[object, ...]) -> list[tuple[str, int]]:
    """The parts that one is made of."""
    match part:
        case ("product", tuple(references)):
            return [("m", max(r, ~r)) for r in references]
        case ("chain", int(a), int(w), int(c)):
            return [("m", max(a, ~a)), ("v", w), ("m", max(c, ~c))]
        case ("diamond", int(a), int(b), int(m), int(c), int(d), int(v), int(w)):
            return [("m", max(r, ~r)) for r in (a, b, m, c, d)] + [("v", v), ("v", w)]
        case ("times", tuple(numbers)):
            return [("v", n) for n in numbers]
        case ("branch", int(m), int(w)):
            return [("m", max(m, ~m)), ("v", w)]
    return []
