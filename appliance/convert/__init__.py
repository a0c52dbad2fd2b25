"""Checkpoint (YOLOv8-seg, FastSAM or YOLO11-seg) -> raw-head ONNX -> int8 TFLite -> Edge TPU -> bundle.

Torch and TensorFlow run as scripts in environments of their own; this package imports neither.
"""

from appliance.convert.conversion import Converted, convert, get_checkpoint

__all__ = ["Converted", "convert", "get_checkpoint"]
