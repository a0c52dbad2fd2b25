"""Raw-head ONNX -> int8 TFLite, by a quantiser of our own: TensorFlow's knows minima and maxima only.

Run by the TensorFlow environment's Python as the package `int8`; imports nothing of the appliance. Only
`flatbuffer`, `observe` and `__main__` need TensorFlow; the rest is numpy, and pure.
"""
