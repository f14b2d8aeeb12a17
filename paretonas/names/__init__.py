"""What a name stands for, on the command line and in Python: a space, a solver, a method, ...

A name without a colon is one of the package. A part of one's own is ``pkg.mod:attribute`` or
``dir/my_file.py:attribute``, whatever its kind; nothing is registered anywhere.
"""

from .lookup import is_own as is_own
from .lookup import short_name as short_name
from .methods import KnownMethod as KnownMethod
from .methods import OwnMethod as OwnMethod
from .methods import check_methods as check_methods
from .methods import find_method as find_method
from .methods import find_methods as find_methods
from .objectives import check_columns as check_columns
from .objectives import find_objectives as find_objectives
from .solvers import find_solver as find_solver
from .solvers import solver_of as solver_of
from .spaces import any_space_of as any_space_of
from .spaces import find_any_space as find_any_space
from .spaces import find_space as find_space
from .spaces import own_module as own_module
from .spaces import problem_of as problem_of
from .spaces import space_of as space_of
from .spaces import with_networks as with_networks
