"""Examples from files: an image folder, CIFAR, arrays or a table.

Each function returns keyword arguments of a task: the three splits and the preprocessing. A text
file needs none of them: `LanguageModel` takes its path.
"""

from ._cifar import cifar
from ._csv import csv
from ._images import image_folder
from ._npz import npz
from ._splits import Splits

__all__ = ["Splits", "cifar", "csv", "image_folder", "npz"]
