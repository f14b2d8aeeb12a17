"""The small programs of the solvers, solved exactly: one per file, each with its KKT residual."""
