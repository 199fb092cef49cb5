"""The stages of a run, a file each: every one takes a context first, and returns a record.

A stage looks first for what is already in the work directory, and makes what is missing.
"""
