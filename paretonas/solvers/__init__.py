"""Solvers turn conflicting gradients into one direction; TorchJD calls them aggregators."""

from paretonas.solvers.aligned_mtl import AlignedMTL
from paretonas.solvers.base import Direction, Solver, Weighting
from paretonas.solvers.cagrad import CAGrad
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.config import ConFIG
from paretonas.solvers.dual_cone import DualProj, UPGrad
from paretonas.solvers.dwa import DynamicWeightAverage
from paretonas.solvers.epo import EPO
from paretonas.solvers.every import EveryKSteps
from paretonas.solvers.fair_grad import FairGrad
from paretonas.solvers.famo import FAMO
from paretonas.solvers.grad_drop import GradDrop
from paretonas.solvers.grad_norm import GradNorm
from paretonas.solvers.grad_vac import GradVac
from paretonas.solvers.imtl_g import IMTLG
from paretonas.solvers.imtl_l import IMTLL
from paretonas.solvers.inverse_magnitude import InverseMagnitude
from paretonas.solvers.linear import LinearScalarization, RandomWeights
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.moving_average import MovingAverage
from paretonas.solvers.nash_mtl import NashMTL
from paretonas.solvers.normalized import Normalized
from paretonas.solvers.pcgrad import PCGrad
from paretonas.solvers.pmgda import PMGDA
from paretonas.solvers.pmtl import PMTL
from paretonas.solvers.preconditioned import Preconditioned, divisor_of
from paretonas.solvers.priority import PriorityProjection
from paretonas.solvers.sam_gs import SAMGS
from paretonas.solvers.tchebycheff import SmoothTchebycheff, Tchebycheff
from paretonas.solvers.uncertainty import UncertaintyWeighting
from paretonas.solvers.weighted import Weighted

__all__ = [
    "EPO",
    "FAMO",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "PMGDA",
    "PMTL",
    "SAMGS",
    "AlignedMTL",
    "CAGrad",
    "Certificate",
    "ConFIG",
    "Direction",
    "DualProj",
    "DynamicWeightAverage",
    "EveryKSteps",
    "FairGrad",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "InverseMagnitude",
    "LinearScalarization",
    "MovingAverage",
    "NashMTL",
    "Normalized",
    "PCGrad",
    "Preconditioned",
    "PriorityProjection",
    "RandomWeights",
    "SmoothTchebycheff",
    "Solver",
    "Tchebycheff",
    "UPGrad",
    "UncertaintyWeighting",
    "Weighted",
    "Weighting",
    "divisor_of",
]
