"""The multigraphs of energy-flow polynomials (arXiv:1712.07124), generated and counted by number of edges.

A multigraph is a tuple of edges (i, j, multiplicity), i < j, over vertices 0..n-1, in a canonical labelling.
Connected ones are grown edge by edge from the single edge, those that are the same up to labels kept once;
disconnected ones are multisets of connected ones, since their polynomials are products. Up to seven edges
there are 489 connected ones and, with the empty one, 1,000 in all.
"""

from __future__ import annotations

from functools import cache

Edges = tuple[tuple[int, int, int], ...]
Adjacency = tuple[tuple[int, ...], ...]


@cache
def connected(degree: int) -> tuple[Edges, ...]:
    """All connected multigraphs of exactly `degree` edges, each once, by number of vertices."""
    if degree < 1:
        return ()
    if degree == 1:
        return (((0, 1, 1),),)
    graphs: set[Adjacency] = set()
    for smaller in connected(degree - 1):
        n = vertices(smaller)
        grown = set()
        for i in range(n):
            grown.add(_with_edge(smaller, i, n))
            grown.update(_with_edge(smaller, i, j) for j in range(i + 1, n))
        graphs.update(canonical(_adjacency(edges)) for edges in grown)
    return tuple(sorted(map(_edges, graphs), key=lambda e: (vertices(e), len(e), e)))


@cache
def multigraphs(degree: int, only_connected: bool = False) -> tuple[tuple[Edges, ...], ...]:
    """All multigraphs of at most `degree` edges, each as the tuple of its connected components; the empty one
    first.

    By number of edges, then of components.
    """
    primes = [edges for d in range(1, degree + 1) for edges in connected(d)]
    out: list[tuple[Edges, ...]] = []

    def extend(first: int, left: int, chosen: tuple[Edges, ...]) -> None:
        out.append(chosen)
        if only_connected and chosen:
            return
        for k in range(first, len(primes)):
            size = edge_count(primes[k])
            if size > left:
                break
            extend(k, left - size, (*chosen, primes[k]))

    extend(0, degree, ())
    place = {edges: i for i, edges in enumerate(primes)}
    return tuple(sorted(out, key=lambda g: (sum(map(edge_count, g)), len(g), [place[e] for e in g])))


def vertices(edges: Edges) -> int:
    """Number of vertices."""
    return 1 + max(j for _, j, _ in edges)


def edge_count(edges: Edges) -> int:
    """Number of edges, each counted as often as it is there."""
    return sum(m for _, _, m in edges)


def canonical(adjacency: Adjacency) -> Adjacency:
    """The same multigraph in a labelling that all of its relabellings share.

    Vertices are told apart by colour refinement; where that leaves some alike, one of them is singled out
    after the other and the smallest result taken. Of twins, which have the same neighbours, one is enough.
    """
    return _search(adjacency, (0,) * len(adjacency))


def _search(a: Adjacency, colours: tuple[int, ...]) -> Adjacency:
    n = len(a)
    while True:
        signs = [(colours[v], sorted((colours[u], m) for u, m in enumerate(a[v]) if m)) for v in range(n)]
        distinct = sorted({(c, tuple(s)) for c, s in signs})
        at = {key: i for i, key in enumerate(distinct)}
        refined = tuple(at[c, tuple(s)] for c, s in signs)
        if len(distinct) == len(set(colours)):
            break
        colours = refined
    if len(distinct) == n:
        order = sorted(range(n), key=refined.__getitem__)
        return tuple(tuple(a[u][v] for v in order) for u in order)
    alike = next(c for c in range(n) if refined.count(c) > 1)
    cell = [v for v in range(n) if refined[v] == alike]
    tried: list[int] = []
    best: Adjacency | None = None
    for v in cell:
        if any(_twins(a, u, v) for u in tried):
            continue
        tried.append(v)
        single = tuple(2 * c + (c == alike and u != v) for u, c in enumerate(refined))
        candidate = _search(a, single)
        best = candidate if best is None or candidate < best else best
    assert best is not None
    return best


def _twins(a: Adjacency, u: int, v: int) -> bool:
    return all(a[u][w] == a[v][w] for w in range(len(a)) if w not in (u, v))


def _with_edge(edges: Edges, i: int, j: int) -> Edges:
    counted = {(a, b): m for a, b, m in edges}
    counted[i, j] = counted.get((i, j), 0) + 1
    return tuple(sorted((a, b, m) for (a, b), m in counted.items()))


def _adjacency(edges: Edges) -> Adjacency:
    n = vertices(edges)
    rows = [[0] * n for _ in range(n)]
    for i, j, m in edges:
        rows[i][j] = rows[j][i] = m
    return tuple(map(tuple, rows))


def _edges(a: Adjacency) -> Edges:
    return tuple((i, j, a[i][j]) for i in range(len(a)) for j in range(i + 1, len(a)) if a[i][j])
