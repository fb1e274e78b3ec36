"""A small web page on which one bundle predicts one image at a time; nothing is kept."""
