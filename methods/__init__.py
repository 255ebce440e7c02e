"""The explainers, one a file; found by listing this folder."""

if __name__ != "mibench.methods":
    raise ImportError(f"import mibench.methods, not {__name__}: under two names there would be two of every class")
