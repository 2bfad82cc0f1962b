"""Where things lie, for tests wherever they lie themselves. Imports the standard library only."""

from pathlib import Path

MATERIAL = Path(__file__).resolve().parent
GOLDEN = MATERIAL.parent / "golden"
ROOT = GOLDEN.parent.parent
TOOLS = ROOT / "tools"

DEMO = GOLDEN / "demo" / "bilstm64.h5"  # trained on real reviews: 400 token ids -> one probability
FORMAT_V1 = GOLDEN / "format_v1.fbl"  # inputs ids and extra, outputs add and bidirectional
FORMAT_V2 = {form: GOLDEN / f"format_v2_{form}.fbl" for form in ("int8", "bfloat16", "float16")}  # the same model
PICKLES = GOLDEN / "pickles_before_rooms.pickle"  # a dict of objects, among them the model of FORMAT_V1
SEQ2SEQ = GOLDEN / "seq2seq" / "model.keras"
