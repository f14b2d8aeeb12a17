"""Examples from files: an image folder, CIFAR, arrays, a table or a text.

Each function returns keyword arguments of a task: the three splits and the preprocessing.
"""

from ._cifar import cifar
from ._csv import csv
from ._images import image_folder
from ._npz import npz
from ._splits import Splits
from ._text import text

__all__ = ["Splits", "cifar", "csv", "image_folder", "npz", "text"]
