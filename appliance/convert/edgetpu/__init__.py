"""What of a model would run on an Edge TPU, and having it compiled.

`model` reads a .tflite, `operators` knows what the Edge TPU can do, `graph` puts both together, `table` shows
it. `compiler` runs Google's edgetpu_compiler where it is installed, `log` reads what that says, `ladder` has
the sizes to try. Nothing here needs a device.
"""
