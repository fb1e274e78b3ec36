"""medseg: which loss, model and augmentation suits these lesion images, and is the difference real?"""

__version__ = "0.1.0"
