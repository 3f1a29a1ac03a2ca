"""The test programme: what a reliable trainer must survive, by counts, in one command.

`python -m tests.programme` runs it; docs/reproducibility.md says what each part checks.
"""
