"""The Python API: what the commands do, for a network, an explainer or a metric at hand."""
