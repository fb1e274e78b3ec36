"""A small web page on which one bundle predicts one image at a time; nothing is kept.

- ``guard``: who may ask: hosts, origins, sizes, and the headers of every reply;
- ``upload``: a file that came in, its kind by content, its size before it is decoded;
- ``worker``: one prediction at a time, and the folder in which it happens;
- ``answer``: what is told of a prediction;
- ``shelf``: answers in memory, for a while;
- ``app``: the addresses; ``server``: the port.
"""
