"""mibench: which mutual-information explainer tells the truth about a network, how sure are we, what does it cost?"""

__version__ = "0.1.0"
