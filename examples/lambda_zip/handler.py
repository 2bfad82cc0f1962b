"""A function as AWS Lambda calls it behind an HTTP gateway: POST {"texts": [...]} -> a label for each text.

The model is loaded once, when the function is started; each call answers from it. build_zip.py makes the archive;
the name of the handler is `handler.handle`. Needs NumPy and fastbilstm.
"""

import base64
import json
from pathlib import Path

import fastbilstm

MODEL = fastbilstm.load(Path(__file__).with_name("model.fbl"), n_threads=1)
MOST_TEXTS = 100


def handle(event, context):
    """The answer to one event of an HTTP gateway; 400 with a message where the request is wrong."""
    try:
        return answer(200, {"answers": MODEL.classify(texts_of(event))})
    except ValueError as error:  # JSON that is none, or texts that the model does not take (InputError)
        return answer(400, {"error": str(error)})


def texts_of(event):
    """The texts of a request."""
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    given = json.loads(body)
    texts = given.get("texts") if isinstance(given, dict) else None
    if not isinstance(texts, list) or not 0 < len(texts) <= MOST_TEXTS or not all(isinstance(t, str) for t in texts):
        raise ValueError(f'expected {{"texts": [...]}} with 1 to {MOST_TEXTS} texts')
    return texts


def answer(status, content):
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(content)}
