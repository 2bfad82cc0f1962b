"""What Keras programs do before a model, without Keras: from text to token ids to padded arrays, and labels after it.

    tokenizer = preprocessing.tokenizer_from_json(open("tokenizer.json").read())
    x = preprocessing.pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=400)

The functions and classes have the names, arguments and results of `keras.preprocessing` and `keras.utils`. Imports
NumPy; nothing of the engine.
"""

from .characters import CharacterEncoder
from .encoder import TextEncoder, read_tokenizer
from .labels import label_answers, read_labels
from .sequences import pad_sequences
from .tags import Span, tag_spans
from .tokenizer import Tokenizer, tokenizer_from_json
from .vocabulary import TextVectorization, WordIndex, read_vocabulary
from .words import FILTERS, hashing_trick, one_hot, text_to_word_sequence

__all__ = [
    "FILTERS",
    "CharacterEncoder",
    "Span",
    "TextEncoder",
    "TextVectorization",
    "Tokenizer",
    "WordIndex",
    "hashing_trick",
    "label_answers",
    "one_hot",
    "pad_sequences",
    "read_labels",
    "read_tokenizer",
    "read_vocabulary",
    "tag_spans",
    "text_to_word_sequence",
    "tokenizer_from_json",
]
