"""Texts that differ between ways of lowering, splitting and filtering, and the real reviews of the shared folder.

Imports the standard library and pytest only.
"""

import json

from shared import shared_file

TEXTS = [
    "The cat sat on the mat. The END!",
    "",
    " \t\n ",
    "?!... -- #$%",
    "a-b_c/d it's 3.14 (x)\tthe\ncat",
    "Straße GROẞ İstanbul ıI ǅ ﬁn Σίσυφος ΣΑΣ",
    "e\u0301 é 😀😀 the😀cat 中文 字 नमस्ते",
    "nul\0nul \x0b\x0c\x1c\x85\xa0\u2003\u2028 the\xa0cat the\u3000cat",
    "\ud800 lone the",
    "the the the cat cat dog " * 20,
    "A,B;c  ,,  d",
]
VOCABULARY = ["the", "cat", "straße", "a", "3", "ab", "é", "the cat", "😀", "it's", "its", "Zebra"]
UNSEEN = ["the bird sat", "İ ı SS ß", "zzz", "the cat 😀", "3 14"]


def reviews():
    """The texts of 1000 real reviews; skips the test where they are missing."""
    with open(shared_file("imdb/imdb_test_reviews_1000.jsonl"), encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]
