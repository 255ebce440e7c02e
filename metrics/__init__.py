"""The scores, one family a file; found by listing this folder."""

if __name__ != "mibench.metrics":
    raise ImportError(f"import mibench.metrics, not {__name__}: under two names there would be two of every class")
