"""Solvers: from conflicting gradients to one direction."""

from paretonas.solvers.base import Direction, Solver
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.dual_cone import DualProj, UPGrad
from paretonas.solvers.epo import EPO
from paretonas.solvers.linear import LinearScalarization, RandomWeights
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.pcgrad import PCGrad
from paretonas.solvers.priority import PriorityProjection
from paretonas.solvers.tchebycheff import SmoothTchebycheff, Tchebycheff
from paretonas.solvers.weighted import Weighted

__all__ = [
    "EPO",
    "MGDA",
    "Certificate",
    "Direction",
    "DualProj",
    "LinearScalarization",
    "PCGrad",
    "PriorityProjection",
    "RandomWeights",
    "SmoothTchebycheff",
    "Solver",
    "Tchebycheff",
    "UPGrad",
    "Weighted",
]
