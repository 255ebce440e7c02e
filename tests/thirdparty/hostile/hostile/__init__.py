"""Plug-ins that misbehave in every way that anybody has thought of so far; `../ends.csv` lists how each must end."""
