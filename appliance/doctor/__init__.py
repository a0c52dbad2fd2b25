"""`appliance doctor`: what is there, what is missing, and what to do about it.

A module for each group of checks. A check is a function that takes a `Machine` and returns a `Check`, or None
where it does not apply. What may crash or hang, or needs a library that may be broken, runs in a process of
its own (`probe`): these modules need nothing but Python.
"""
