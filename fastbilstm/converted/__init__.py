"""What a converted file (.fbl) holds.

fbl_file.py           the file: graph and arrays as Keras lays them out, checked by SHA-256; mapped_file.py: its bytes
self_check.py         its self-check vector: recorded inputs and outputs
versions.py           why the installed Keras answers otherwise than the one that wrote the file
text_and_labels.py    its tokenizer and the names of its classes

May import: engine, preprocessing and what is below them; never Model, which is handed in.
"""
