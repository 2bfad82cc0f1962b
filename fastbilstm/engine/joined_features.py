"""A recurrent layer after a Concatenate of embeddings and other features, as in a tagger of words and characters.

The widest Embedding goes into a table of projections; the products of the other features are added to its rows. Works
on the calls of fusion.py. Imports the specification and what runs in its place; knows nothing of files.
"""

from ..layers import merging
from .vector_embedded import VectorEmbedded
from .vector_recurrent import padded_width, recurrent


def find(builder, call):
    """(Call of the Concatenate that a recurrent call alone reads, place and call of its widest Embedding), or None."""
    found = builder.calls.get(call.refs[0].node) if call.refs and not call.kwargs.get("mask") else None
    if found is None or type(found.layer) is not merging.Concatenate or not found.plain or builder.is_shared(call):
        return None
    if builder.users[found.number] != 1 or builder.rank(found) != 3 or found.layer.axis not in (-1, 2):
        return None
    if builder.is_masked(call.refs[0]) or getattr(call.layer, "time_major", False):
        return None
    parts = [(place, builder.calls.get(ref.node)) for place, ref in enumerate(found.refs)]
    lookups = [(place, part) for place, part in parts if part is not None and part.is_lookup]
    if len(parts) < 2 or not lookups:
        return None
    return found, *max(lookups, key=lambda one: one[1].layer.output_dim)


def replace(builder, call, joined, place, embedding, fold):
    """Let a recurrent layer read the ids of the widest Embedding, and beside them what a Concatenate joins to it."""
    rows, others = embedding.layer.weights["embeddings"], list(joined.refs)
    del others[place]
    first = sum(builder.spec_of(ref).shape[-1] for ref in joined.refs[:place])
    made = recurrent(call.layer, fold, rows, builder.weights, first)
    project = builder.budget.takes(len(rows) * 4 * padded_width(call.layer))
    call.runner = VectorEmbedded(embedding.layer, made, project, len(others))
    builder.change(call, ([embedding.refs[0], *others, *call.refs[1:]], *call.args[1:]), call.kwargs)
    builder.remove(joined)
    builder.merge(joined, call, "rows read in place")
    builder.merge(embedding, call, "in a table of projections" if project else "rows read in place")
