"""The graph of a model as SVG for `fastbilstm report`: calls of layers in ranks from top to bottom.

The rank of a box is its longest path from an input. Within a rank, boxes are ordered by the mean place of their
neighbours, then placed by least squares so that none overlap. An edge over several ranks has a point in each (after
Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981). A model inside a
model is a frame with its own drawing inside. Graphviz would save lines, but is a program to install beside Python.
Imports engine/summary.py and graph.py.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from ..engine.summary import describe, inner_network, shape_text
from ..graph import flatten_refs

GAP, RANK_GAP, PADDING = 24, 46, 10
# Widths of characters: bold names and the lines below them.
BOLD, PLAIN = 7.4, 6.5
LONGEST = 34
# Sweeps over the ranks; fewer if a drawing has more boxes and points than this.
SWEEPS, MANY = 12, 60_000


@dataclass
class Box:
    """A node of the drawing; without `lines`, it is a point of a long edge."""

    lines: tuple = ()
    kind: str = ""
    title: str = ""
    inner: tuple | None = None
    width: float = 12.0
    height: float = 0.0
    rank: int = 0
    x: float = 0.0
    y: float = 0.0
    labels: list = field(default_factory=list)
    above: list = field(default_factory=list)
    below: list = field(default_factory=list)

    @property
    def is_point(self):
        return not self.lines


def _short(text):
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _box(lines, kind, title, shapes=(), inner=None):
    lines = tuple(_short(line) for line in lines if line)
    width = max(len(line) * (BOLD if k == 0 else PLAIN) for k, line in enumerate(lines)) + 2 * PADDING
    width = max([width, *(2 * (len(shape) * PLAIN + 16) for shape in shapes)])
    height = 16 * len(lines) + PADDING
    if inner is not None:
        width, height = max(width, inner[1] + 2 * PADDING), height + inner[2] + PADDING
    return Box(lines, kind, title, inner, width, height)


def draw(network, runner=None):
    """(SVG, width, height) of a network; `runner` is the engine's network, None without the engine."""
    return _svg(*_drawing(network, runner))


def _svg(body, width, height):
    return (
        f'<svg role="img" class="graph" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} '
        f'{height:.0f}"><title>Graph of the layers; the table of layers lists the same</title>{body}</svg>'
    )


def _drawing(network, runner, depth=0):
    """(SVG elements, width, height) of a network."""
    return arrange(*_boxes_and_edges(network, runner, depth))


def arrange(boxes, edges):
    """(SVG elements, width, height) of boxes, sources first, and edges (source, target, masked, [])."""
    ranks = _rank(boxes, edges)
    sweeps = max(1, min(SWEEPS, MANY // sum(map(len, ranks))))
    _order(ranks, sweeps)
    width = _place(ranks, 3 * sweeps)
    height = _stack(ranks)
    parts = [_edge(*edge) for edge in edges]
    parts += [_node(box) for box in boxes]
    return "".join(parts), width, height


def _reads(node):
    """(references that a node reads as masks, all others)."""
    masks = {key: value for key, value in node.kwargs.items() if key == "mask" or key.endswith("_mask")}
    others = {key: value for key, value in node.kwargs.items() if key not in masks}
    return flatten_refs(masks), flatten_refs((node.args, others))


def mask_nodes(graph):
    """The numbers, inputs counted first, of the op nodes that only make masks, as Keras 3 writes masks down.

    Whatever reads such a node reads it as a mask, or makes a mask of it. None, if something would then stand alone.
    """
    first, found = len(graph.inputs), set()
    given = {ref.node for ref in graph.outputs}
    reads = [_reads(node) for node in graph.nodes]
    for number in reversed(range(len(graph.nodes))):
        if not graph.layers[graph.nodes[number].layer].class_name.startswith("ops.") or first + number in given:
            continue
        as_mask = any(ref.node == first + number for masks, _ in reads for ref in masks)
        readers = {k for k, (_, others) in enumerate(reads) if any(ref.node == first + number for ref in others)}
        if (as_mask or readers) and all(first + k in found for k in readers):
            found.add(first + number)
    drawn = {ref.node for k, (masks, others) in enumerate(reads) if first + k not in found for ref in (*masks, *others)}
    sources = {ref.node for k, (_, others) in enumerate(reads) if first + k in found for ref in others}
    return found if sources - found <= drawn | given else set()


def _boxes_and_edges(network, runner, depth):
    graph, hidden = network.graph, mask_nodes(network.graph)
    labels, calls, seen = getattr(runner, "labels", {}), {}, {}
    for node in graph.nodes:
        calls[node.layer] = calls.get(node.layer, 0) + 1
    boxes, specs = [], []
    for given in graph.inputs:
        shape = shape_text(given.shape) if given.shape is not None else ""
        boxes.append(_box((given.name, given.dtype), "input", f"input {given.name}", [shape]))
        specs.append([(shape, False)])
    for number, node in enumerate(graph.nodes):
        layer, outputs = graph.layers[node.layer], network.node_specs[number]
        specs.append([(shape_text(spec.shape), spec.masked) for spec in outputs])
        seen[node.layer] = seen.get(node.layer, 0) + 1
        if len(graph.inputs) + number in hidden:
            boxes.append(None)
            continue
        runs = labels.get(node.layer, "")
        call = f"call {seen[node.layer]} of {calls[node.layer]}" if calls[node.layer] > 1 else ""
        inner = None
        if layer.graph is not None and seen[node.layer] == 1 and depth < 8:
            inner = _drawing(network.inner[node.layer], inner_network(runner, layer), depth + 1)
        kind = "model" if layer.graph is not None else _kind(runs)
        title = f"{layer.name}: {describe(layer)}" + (f"; {runs}" if runs else "")
        lines = (layer.name, describe(layer), call, "" if layer.graph is not None else runs)
        shapes = [shape + " mask" * masked for shape, masked in specs[-1]]
        boxes.append(_box(lines, kind, title, shapes, inner))
    edges = []
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        if number in hidden:
            continue
        masks, others = _reads(node)
        shown = [ref for ref in masks if ref.node not in hidden]
        _connect(edges, boxes, specs, [*others, *shown], boxes[number], masked=len(shown) < len(masks))
    for name, ref in zip(graph.output_names, graph.outputs):
        boxes.append(_box((f"output {name}",), "output", f"output {name}"))
        _connect(edges, boxes, specs, [ref], boxes[-1])
    return [box for box in boxes if box is not None], edges


def _connect(edges, boxes, specs, refs, target, masked=False):
    """Add an edge (source, target, masked, points) for each box that is read, and label what is read of it.

    `masked`: whether a mask goes along that has no box.
    """
    always, masked = masked, {}
    for ref in refs:
        shape, carried = specs[ref.node][ref.tensor]
        label = shape, carried or always
        masked[ref.node] = masked.get(ref.node, False) or label[1]
        if label not in boxes[ref.node].labels:
            boxes[ref.node].labels.append(label)
    edges += [(boxes[number], target, flag, []) for number, flag in masked.items()]


def _kind(runs):
    if runs in ("dropped", "folded") or runs.startswith(("in a table", "rows read")):
        return "folded"
    return "kernel" if runs.startswith("vector") else "numpy"


def _rank(boxes, edges):
    """Boxes by rank, with a point in each rank that an edge crosses; fills `above` and `below`."""
    for source, target, *_ in edges:
        source.below.append(target)
        target.above.append(source)
    for box in boxes:  # sources come before targets
        box.rank = max((other.rank + 1 for other in box.above), default=0)
    last = max(box.rank for box in boxes)
    for box in reversed(boxes):
        if box.kind == "output":
            box.rank = last
        elif not box.above and box.below:
            box.rank = min(other.rank for other in box.below) - 1
    ranks = [[] for _ in range(last + 1)]
    for box in boxes:
        box.above, box.below = [], []
        ranks[box.rank].append(box)
    for source, target, _, points in edges:
        points += [Box(rank=rank) for rank in range(source.rank + 1, target.rank)]
        chain = [source, *points, target]
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
        for point in points:
            ranks[point.rank].append(point)
    return ranks


def _crossings(ranks):
    count = 0
    for upper, lower in pairwise(ranks):
        place = {id(box): k for k, box in enumerate(lower)}
        seen = []
        for box in upper:
            ends = [place[id(other)] for other in box.below]
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _order(ranks, sweeps):
    """Sort each rank by the mean place of the neighbours, downwards and upwards; keep the fewest crossings."""
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks)
    for sweep in range(sweeps):
        if not fewest:
            break
        down = sweep % 2 == 0
        for number in range(1, len(ranks)) if down else range(len(ranks) - 2, -1, -1):
            beside = ranks[number - 1 if down else number + 1]
            place = {id(box): k for k, box in enumerate(beside)}
            here = {id(box): k for k, box in enumerate(ranks[number])}

            def mean(box, place=place, here=here, down=down):
                found = [place[id(other)] for other in (box.above if down else box.below)]
                return sum(found) / len(found) if found else here[id(box)]

            ranks[number].sort(key=mean)
        count = _crossings(ranks)
        if count < fewest:
            best, fewest = [list(rank) for rank in ranks], count
    ranks[:] = best


def _settle(boxes, wanted):
    """Places without overlap, nearest to the wanted ones by least squares; boxes that touch move as one pool."""
    offset, pools = 0.0, []
    for k, box in enumerate(boxes):
        if k:
            offset += (boxes[k - 1].width + box.width) / 2 + GAP
        pools.append([wanted[k] - offset, 1, [(box, offset)]])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            place, weight, members = pools.pop()
            before = pools[-1]
            before[0] = (before[0] * before[1] + place * weight) / (before[1] + weight)
            before[1] += weight
            before[2] += members
    for place, _, members in pools:
        for box, at in members:
            box.x = place + at


def _place(ranks, sweeps):
    """Set x; returns the width of the drawing."""
    for rank in ranks:
        _settle(rank, [0.0] * len(rank))
    for sweep in range(sweeps):
        for rank in ranks if sweep % 2 == 0 else reversed(ranks):
            wanted = []
            for box in rank:
                # Straight lines matter most where they are long.
                near = [
                    (8 if box.is_point and other.is_point else 2 if box.is_point else 1, other.x)
                    for other in (*box.above, *box.below)
                ]
                wanted.append(sum(w * x for w, x in near) / sum(w for w, _ in near) if near else box.x)
            _settle(rank, wanted)
    boxes = [box for rank in ranks for box in rank]
    left = min(box.x - box.width / 2 for box in boxes) - PADDING
    for box in boxes:
        box.x -= left
    return max(box.x + box.width / 2 for box in boxes) + PADDING


def _stack(ranks):
    """Set y, the middle of a box; returns the height of the drawing."""
    top = PADDING
    for rank in ranks:
        tallest = max(box.height for box in rank)
        for box in rank:
            box.y = top + tallest / 2
            if box.is_point:
                box.height = tallest
        top += tallest + RANK_GAP
    return top - RANK_GAP + PADDING


def _edge(source, target, masked, points):
    x, y = source.x, source.y + source.height / 2
    path = [f"M{x:.1f} {y:.1f}"]
    # Several edges arrive side by side.
    arriving = sorted(target.above, key=lambda box: box.x)
    last = points[-1] if points else source
    port = next(k for k, box in enumerate(arriving) if box is last) + 1
    end = target.x + target.width * (port / (len(arriving) + 1) - 0.5) * min(1.0, 0.25 * len(arriving))
    for point in points:
        path.append(_curve(x, y, point.x, point.y - point.height / 2) + f"V{point.y + point.height / 2:.1f}")
        x, y = point.x, point.y + point.height / 2
    bottom = target.y - target.height / 2
    path.append(_curve(x, y, end, bottom - 6))
    kind = "edge masked" if masked else "edge"
    parts = [f'<path class="{kind}" d="{"".join(path)}"/>']
    parts.append(f'<path class="tip" d="M{end - 4:.1f} {bottom - 7:.1f}h8l-4 7z"/>')
    return "".join(parts)


def _curve(x, y, to_x, to_y):
    middle = (y + to_y) / 2
    return f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"


def _node(box):
    left, top = box.x - box.width / 2, box.y - box.height / 2
    radius = 12 if box.kind in ("input", "output") else 5
    parts = [
        f'<g class="box {box.kind}"><title>{escape(box.title)}</title><rect x="{left:.1f}" y="{top:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius}"/>'
    ]
    for k, line in enumerate(box.lines):
        kind = ' class="name"' if k == 0 else ""
        parts.append(f'<text{kind} x="{box.x:.1f}" y="{top + 17 + 16 * k:.1f}">{escape(line)}</text>')
    for k, (shape, masked) in enumerate(box.labels[:2]):
        more = ", …" if k == 1 and len(box.labels) > 2 else ""
        label = escape(shape) + more + (' <tspan class="mask">mask</tspan>' if masked else "")
        place = top + box.height + 13 + 12 * k
        parts.append(f'<text class="shape" x="{box.x + 7:.1f}" y="{place:.1f}">{label}</text>')
    parts.append("</g>")
    if box.inner is not None:
        body, width, height = box.inner
        down = box.y + box.height / 2 - height - PADDING / 2
        parts.append(f'<g transform="translate({box.x - width / 2:.1f} {down:.1f})">{body}</g>')
    return "".join(parts)
