"""How good models are: masks against those of the float reference and against labels, and what they cost.

`reference` has the masks to compare with, `passes` those of a model, `matching` compares; `evaluation` puts
it together, `report` shows it. Torch and Ultralytics run in an environment of their own, and only to make a
reference from a checkpoint; masks that were made elsewhere need neither.
"""
