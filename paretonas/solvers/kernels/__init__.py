"""The small exact programs that solvers solve: one file a program, each with its KKT residual."""
